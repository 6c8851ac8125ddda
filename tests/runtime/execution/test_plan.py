"""Planning: facts in, decisions with their reasons out."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import Artifact, Manifest, Precision, Squash, Tower, Towers
from siglip_edge.runtime.errors import ArtifactMissing, ProviderUnavailable
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan, Wishes, plan, plans
from siglip_edge.runtime.machine.cpu import CpuBudget
from tests.tiny_model import add_precision, change_artifacts, write_model

CPU_FACTS = CpuBudget(logical=8, physical=8, usable=8, quota=4.0, memory=1 << 30, isa=("avx2", "avx_vnni"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """A manifest with every precision."""
    directory: Path = write_model(tmp_path_factory.mktemp("model") / "tiny")
    for precision in Precision:
        if precision is not Precision.INT8:
            add_precision(directory, precision)
    return Manifest.load(directory)


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


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_fp16_on_a_cpu_is_served_when_it_is_asked_for(manifest, device):
    """However the CPU was chosen; the reason says what it costs there."""
    made = plan([CPU], CPU_FACTS, manifest, Wishes(device=device, precision=Precision.FP16))
    assert (made.provider, made.precision) == (CPU, Precision.FP16)
    assert "fp16 as asked, computed in fp32 in more memory" in made.reason


@pytest.mark.parametrize(
    ("isa", "first"),
    [
        (("avx2",), CPU),
        (("avx2", "avx512f"), CPU),
        ((), CPU),
        (("avx2", "avx_vnni"), OPENVINO),
        (("avx2", "avx512f", "avx512_vnni"), OPENVINO),
    ],
)
def test_openvino_goes_first_only_where_it_is_faster(manifest, isa, first):
    """Without VNNI its INT8 takes twice the CPU's time; it is then still there to fall back to."""
    made = plans([CPU, OPENVINO], replace(CPU_FACTS, isa=isa), manifest, Wishes())
    assert made[0].provider == first
    assert {one.provider for one in made} == {CPU, OPENVINO}


@pytest.mark.parametrize(
    ("isa", "precision", "signed"),
    [
        (("avx2", "avx_vnni"), Precision.INT8, True),
        (("avx2", "avx512f", "avx512_vnni"), Precision.INT8, True),
        (("asimddp",), Precision.INT8, True),
        (("avx2", "avx512f"), Precision.INT8, False),
        (("avx2", "avx_vnni"), Precision.FP32, False),
    ],
)
def test_int8_activations_are_multiplied_as_they_are_only_where_sums_have_32_bits(manifest, isa, precision, signed):
    """Elsewhere their sums saturate, and onnxruntime makes them uint8."""
    made = plans([CPU, OPENVINO], replace(CPU_FACTS, isa=isa), manifest, Wishes(precision=precision))
    assert {one.signed_products for one in made if one.provider == CPU} == {signed}
    assert not any(one.signed_products for one in made if one.provider != CPU)


def test_a_gpu_goes_first_on_any_cpu(manifest):
    made = plans([CPU, OPENVINO, CUDA], replace(CPU_FACTS, isa=("avx2",)), manifest, Wishes())
    assert list(dict.fromkeys(one.provider for one in made)) == [CUDA, CPU, OPENVINO]


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
    wishes = Wishes(workers=workers, precision=Precision.FP32)
    assert plan([CPU], CPU_FACTS, manifest, wishes).intra_op_threads == threads


INT8, INT4, FP16, FP32 = Precision.INT8, Precision.INT4, Precision.FP16, Precision.FP32
ON_CPU = [(CPU, INT8), (CPU, FP32), (CPU, FP16), (CPU, INT4)]
ON_OPENVINO = [(OPENVINO, INT8), (OPENVINO, FP16), (OPENVINO, FP32), (OPENVINO, INT4)]
ON_CUDA = [(CUDA, FP16), (CUDA, FP32), (CUDA, INT8), (CUDA, INT4)]


def sized(manifest: Manifest, vision: int, text: int, patches: int, length: int) -> Manifest:
    """With INT8 towers of so many bytes, and so many patches and tokens a row."""
    size = {Tower.VISION: vision, Tower.TEXT: text}

    def in_size(tower: Tower, artifacts: dict[Precision, Artifact]) -> dict[Precision, Artifact]:
        return {
            precision: msgspec.structs.replace(one, graph=msgspec.structs.replace(one.graph, size=size[tower]))
            for precision, one in artifacts.items()
        }

    changed = change_artifacts(manifest, in_size)
    geometry = Squash(size=int(patches**0.5) * 16, patch_size=16)
    towers = Towers(
        vision=msgspec.structs.replace(changed.vision, geometry=geometry),
        text=msgspec.structs.replace(changed.text, length=length),
    )
    return msgspec.structs.replace(changed, towers=towers)


@pytest.mark.parametrize(
    ("sizes", "images", "texts"),
    [
        ((95_062_185, 86_740_582, 256, 64), 1, 2),  # base, 256 pixels: an image alone is more than a full run
        ((3_409_899, 915_040, 64, 24), 8, 8),  # the demo model: nine images would fill one, eight are enough
        ((6_443_173, 5_733_620, 196, 64), 1, 5),  # width 192, 12 layers, 224 pixels
        ((24_442_597, 22_045_366, 256, 64), 1, 2),  # width 384, 12 layers
        ((3_409_899, 86_740_582, 64, 64), 8, 2),  # each tower counts for itself
    ],
)
def test_a_run_of_int8_on_the_cpu_takes_as_many_rows_as_fill_it(manifest, sizes, images, texts):
    made = plans([CPU], CPU_FACTS, sized(manifest, *sizes), Wishes())
    assert {one.precision: one.rows(Tower.VISION) for one in made} == {INT8: images, INT4: 1, FP16: 1, FP32: 1}
    assert {one.precision: one.rows(Tower.TEXT) for one in made} == {INT8: texts, INT4: 1, FP16: 1, FP32: 1}


@pytest.mark.parametrize(
    ("sizes", "threads"),
    [
        ((95_062_185, 86_740_582, 256, 64), 4),  # base, 256 pixels
        ((3_409_899, 915_040, 64, 24), 1),  # the demo model: a second thread makes a lone row slower
        ((6_443_173, 5_733_620, 196, 64), 3),  # width 192, 12 layers, 224 pixels
    ],
)
def test_a_lone_row_of_int8_has_no_more_threads_than_it_is_worth(manifest, sizes, threads):
    """The cores are filled by runs side by side all the same; where those are not allowed, by all threads."""
    planned = plan([CPU], CPU_FACTS, sized(manifest, *sizes), Wishes())
    assert (planned.intra_op_threads, planned.runs_at_once) == (threads, 4)
    assert (f"; 4 threads, {threads} for a lone run: " in planned.reason) == (threads < 4)
    one_run = plan([CPU], CPU_FACTS, sized(manifest, *sizes), Wishes(max_concurrent_batches=1))
    assert (one_run.intra_op_threads, one_run.runs_at_once) == (4, 1)


def test_fewer_long_rows_share_a_run_on_other_providers(manifest):
    """A run's buffers grow with its tokens: of 8192 tokens one row on OpenVINO, four on CUDA."""
    long = sized(manifest, 95_062_185, 303_000_000, 256, 8192)
    for provider, most in ((OPENVINO, 1), (CUDA, 4)):
        planned = plan([CPU, provider], CPU_FACTS, long, Wishes())
        limit = planned.batch_limit(Tower.TEXT)
        assert limit.allows(most, most * 8192)
        assert not limit.allows(most + 1, (most + 1) * 8192)
        assert limit.allows(8, 8 * 512)
        assert planned.batch_limit(Tower.VISION).cost is None


def test_no_more_runs_are_planned_than_the_operator_allows(manifest):
    """Or their share of the threads would be too small."""
    assert plan([CPU], CPU_FACTS, manifest, Wishes(max_concurrent_batches=2)).runs_at_once == 2
    assert plan([CPU], CPU_FACTS, manifest, Wishes(max_concurrent_batches=100)).runs_at_once == 4


def test_a_tower_in_several_files_counts_with_all_of_them(int8_only):
    """Its graph may name its weights only."""
    weights = FileRecord(path="weights", size=10**9, sha256="")

    def in_two_files(tower: Tower, artifacts: dict[Precision, Artifact]) -> dict[Precision, Artifact]:
        one = msgspec.structs.replace(artifacts[INT8], external_data=(weights,) if tower is Tower.VISION else ())
        return {INT8: one}

    large = change_artifacts(int8_only, in_two_files)
    assert plan([CPU], CPU_FACTS, int8_only, Wishes()).intra_op_threads == 1
    assert plan([CPU], CPU_FACTS, large, Wishes()).intra_op_threads == 4


@pytest.mark.parametrize(("provider", "rows"), [(CPU, 8), (OPENVINO, 8), (CUDA, 32)])
def test_other_providers_have_rules_of_their_own(int8_only, provider, rows):
    """A base model's rows share runs on OpenVINO; on a GPU whole batches do, whose bits are not promised."""
    assert plan([CPU, provider], CPU_FACTS, int8_only, Wishes()).rows(Tower.VISION) == rows
    base = plan([CPU, provider], CPU_FACTS, sized(int8_only, 95_062_185, 86_740_582, 256, 64), Wishes())
    assert base.rows(Tower.VISION) == (1 if provider == CPU else rows)


@pytest.mark.parametrize("provider", [CPU, OPENVINO, CUDA])
def test_no_run_takes_more_rows_than_the_operator_allows(int8_only, provider):
    made = plan([CPU, provider], CPU_FACTS, int8_only, Wishes(batch_size=2))
    assert [made.rows(tower) for tower in Tower] == [2, 2]


def places(made: tuple[ExecutionPlan, ...]) -> list[tuple[str, Precision]]:
    return [(one.provider, one.precision) for one in made]


@pytest.mark.parametrize(
    ("available", "wishes", "expected"),
    [
        ([CPU], Wishes(), ON_CPU),
        ([OPENVINO, CPU], Wishes(), ON_OPENVINO + ON_CPU),
        ([CPU, CUDA], Wishes(), ON_CUDA + ON_CPU),
        ([CPU, OPENVINO, CUDA], Wishes(), ON_CUDA + ON_OPENVINO + ON_CPU),
        ([CPU, OPENVINO, CUDA], Wishes(precision=FP16), [(CUDA, FP16), (OPENVINO, FP16), (CPU, FP16)]),
        ([CPU, OPENVINO, CUDA], Wishes(device="cpu"), ON_CPU),
        ([CPU, OPENVINO, CUDA], Wishes(device="openvino:GPU"), ON_OPENVINO),
        ([CPU, OPENVINO, CUDA], Wishes(device="cuda"), ON_CUDA),
        ([CPU, CUDA], Wishes(device="cuda", precision=INT8), [(CUDA, INT8)]),
    ],
)
def test_what_auto_leaves_open_is_tried_in_order(manifest, available, wishes, expected):
    """What was asked for by name is in every plan: it is never given up for something that would work."""
    made = plans(available, CPU_FACTS, manifest, wishes)
    assert places(made) == expected
    assert made[0] == plan(available, CPU_FACTS, manifest, wishes)
    assert len({one.reason for one in made}) == len(made)


@pytest.mark.parametrize("provider", [CPU, OPENVINO, CUDA])
def test_every_precision_has_its_rank_on_every_provider(manifest, provider):
    """A precision without one could not be asked for by name."""
    for precision in Precision:
        wishes = Wishes(precision=precision)
        assert (provider, precision) in places(plans([provider, CPU], CPU_FACTS, manifest, wishes))


def test_only_precisions_that_are_there_are_tried(int8_only):
    assert places(plans([CPU, OPENVINO], CPU_FACTS, int8_only, Wishes())) == [(OPENVINO, INT8), (CPU, INT8)]


def test_a_model_without_a_whole_precision_is_an_error(int8_only):
    halved = change_artifacts(int8_only, lambda tower, artifacts: artifacts if tower is Tower.VISION else {})
    with pytest.raises(ArtifactMissing, match="run the export again"):
        plans([CPU], CPU_FACTS, halved, Wishes())


def measured(provider: str = CPU, precision: Precision = FP32, threads: int = 2, **more) -> ExecutionPlan:
    return ExecutionPlan(
        provider=provider,
        precision=precision,
        intra_op_threads=threads,
        allow_spinning=True,
        reason="measured",
        **more,
    ).with_rows(4)


@pytest.mark.parametrize(
    ("available", "wishes", "best"),
    [
        ([CPU], Wishes(), measured()),
        ([CPU, OPENVINO], Wishes(), measured()),
        ([CPU, CUDA], Wishes(device="cpu"), measured()),
        ([CPU], Wishes(precision=FP32), measured()),
        ([CPU, OPENVINO], Wishes(), measured(OPENVINO, FP16, provider_options={"device_type": "CPU"})),
        ([CPU, CUDA], Wishes(), measured(CUDA, INT8, provider_options={"device_id": "0"})),
        ([CPU, CUDA], Wishes(device="cuda"), measured(CUDA, INT8, provider_options={"device_id": "0"})),
    ],
)
def test_what_was_measured_goes_first_where_it_fits(manifest, available, wishes, best):
    """And the others follow as before, without it."""
    made = plans(available, CPU_FACTS, manifest, wishes, best)
    unmeasured = places(plans(available, CPU_FACTS, manifest, wishes))
    assert made[0] == best
    assert places(made[1:]) == [place for place in unmeasured if place != (best.provider, best.precision)]


@pytest.mark.parametrize(
    ("available", "wishes", "best"),
    [
        ([CPU], Wishes(), measured(CUDA, FP16)),  # measured in another environment
        ([CPU, OPENVINO], Wishes(device="openvino"), measured()),
        ([CPU], Wishes(precision=INT8), measured()),
        ([CPU, CUDA], Wishes(device="cuda:1"), measured(CUDA, FP16, provider_options={"device_id": "0"})),
    ],
)
def test_what_was_measured_never_overrules_a_wish(manifest, available, wishes, best):
    assert plans(available, CPU_FACTS, manifest, wishes, best) == plans(available, CPU_FACTS, manifest, wishes)


def test_a_measured_plan_takes_no_more_threads_than_its_share(manifest):
    """Tuned alone on four cores, served by two workers: two threads each."""
    assert plans([CPU], CPU_FACTS, manifest, Wishes(workers=2), measured(threads=4))[0].intra_op_threads == 2
    assert plans([CPU], CPU_FACTS, manifest, Wishes(workers=2), measured(threads=1))[0].intra_op_threads == 1
