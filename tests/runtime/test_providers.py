"""Planning: facts in, a decision with its reason out."""

from pathlib import Path

import pytest

from runtime.cpu import CpuBudget
from runtime.errors import ArtifactMissing, ProviderUnavailable
from runtime.manifest import Manifest, Precision
from runtime.providers import CPU, CUDA, OPENVINO, Wishes, plan
from tests.tiny_model import write_model

CPU_FACTS = CpuBudget(logical=8, physical=8, usable=8, quota=4.0, memory=1 << 30, isa=("avx2",))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """A manifest with every precision: the tiny model's INT8 artifacts under all three names."""
    directory: Path = write_model(tmp_path_factory.mktemp("model") / "tiny")
    tiny = Manifest.load(directory)
    fields = {field: getattr(tiny, field) for field in tiny.__struct_fields__}
    artifacts = [
        type(artifact)(
            **{name: getattr(artifact, name) for name in artifact.__struct_fields__} | {"precision": precision}
        )
        for artifact in tiny.artifacts
        for precision in Precision
    ]
    return Manifest(**fields | {"artifacts": tuple(artifacts)})


@pytest.fixture(scope="module")
def int8_only(tmp_path_factory) -> Manifest:
    return Manifest.load(write_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.mark.parametrize(
    ("available", "wishes", "provider", "precision"),
    [
        ([CPU], Wishes(), CPU, Precision.INT8),
        ([CPU, OPENVINO], Wishes(), OPENVINO, Precision.INT8),
        ([CPU, OPENVINO, CUDA], Wishes(), CUDA, Precision.FP16),
        ([CPU, CUDA], Wishes(device="cpu"), CPU, Precision.INT8),
        ([CPU, CUDA], Wishes(device="cuda:1"), CUDA, Precision.FP16),
        ([CPU, OPENVINO], Wishes(device="openvino:GPU"), OPENVINO, Precision.INT8),
        ([CPU], Wishes(precision=Precision.FP32), CPU, Precision.FP32),
    ],
)
def test_the_plan_follows_facts_and_wishes(manifest, available, wishes, provider, precision):
    made = plan(available, CPU_FACTS, manifest, wishes)
    assert (made.provider, made.precision) == (provider, precision)
    assert made.reason


@pytest.mark.parametrize(
    ("device", "options"), [("cuda:1", {"device_id": "1"}), ("openvino:GPU", {"device_type": "GPU"})]
)
def test_a_device_number_reaches_the_provider(manifest, device, options):
    assert plan([CPU, CUDA, OPENVINO], CPU_FACTS, manifest, Wishes(device=device)).provider_options == options


@pytest.mark.parametrize("device", ["cuda", "openvino", "tpu"])
def test_a_device_asked_for_by_name_is_had_or_an_error(manifest, device):
    """No silent fall-back to the CPU."""
    with pytest.raises(ProviderUnavailable, match=device):
        plan([CPU], CPU_FACTS, manifest, Wishes(device=device))


def test_a_precision_asked_for_by_name_is_had_or_an_error(int8_only):
    with pytest.raises(ArtifactMissing, match="no fp32 artifacts"):
        plan([CPU], CPU_FACTS, int8_only, Wishes(precision=Precision.FP32))


@pytest.mark.parametrize(("workers", "threads"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_workers_share_the_cores(manifest, workers, threads):
    """Four cores of quota: workers times threads never exceeds them, and no worker is left without one."""
    assert plan([CPU], CPU_FACTS, manifest, Wishes(workers=workers)).intra_op_threads == threads


def test_the_cpu_runs_one_row_at_a_time(manifest):
    """Bits cannot depend on the batch where there is no batch; on CPU it costs nothing."""
    assert plan([CPU], CPU_FACTS, manifest, Wishes()).rows_per_run == 1
    assert plan([CUDA], CPU_FACTS, manifest, Wishes()).rows_per_run is None
