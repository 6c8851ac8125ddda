"""One artifact, three providers: what the CPU provider was verified with is right on OpenVINO and on CUDA too.

Each runs where its provider has devices (`make test-openvino`, `make test-openvino-wheel`) and is skipped elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.checks.selftest import check, load_golden
from siglip_edge.runtime.errors import ProviderUnavailable
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan, Wishes, plan, plans
from siglip_edge.runtime.execution.session import GraphSession, available_providers, session_options
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import PlannedModel
from tests.server.conftest import ROOT, Server, data_uri

MODEL = ROOT / "quantized_models/emoji-siglip"
DEVICE = {OPENVINO: "openvino", CUDA: "cuda"}
GPU_NODES = ("nvidiactl", "nvhost-gpu", "dxg")
"""NVIDIA's driver on a card, on a Jetson, under WSL: with one of them, CUDA that cannot be loaded is a failure."""
TEXTS = ["pizza", "una pizza", "披萨", "A DOG'S FACE", "octopus " * 20, "x"]

LEAST_GOLDEN = {Precision.INT8: 0.99, Precision.FP16: 0.9999}
"""Least cosine of a golden row to FP32: far above the self-test's floor, which only tells wrong from right."""
LEAST_AGREEMENT = {Precision.INT8: 0.999, Precision.FP16: 0.9999}
"""Least cosine to the CPU provider's vector: other kernels round elsewhere, and INT8 rounds coarsely."""

on_openvino = pytest.mark.skipif(OPENVINO not in available_providers(), reason=f"no {OPENVINO} in this environment")


def planned(provider: str, precision: Precision) -> ExecutionPlan:
    wishes = Wishes(device=DEVICE.get(provider, "cpu"), precision=precision)
    return plan(available_providers(), read_cpu_budget(), Manifest.load(MODEL), wishes)


@pytest.fixture(
    scope="module",
    params=[(OPENVINO, Precision.INT8), (OPENVINO, Precision.FP16), (CUDA, Precision.FP16)],
    ids=lambda place: f"{place[1]} on {place[0]}",
)
def model(request) -> EmbeddingModel:
    provider, precision = request.param
    if provider not in available_providers():
        pytest.skip(f"no {provider} in this environment")
    try:
        return EmbeddingModel.load(MODEL, planned(provider, precision))
    except ProviderUnavailable as error:
        if provider == CUDA and not any(Path("/dev", node).exists() for node in GPU_NODES):
            pytest.skip(f"no GPU: {error}")
        raise


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.open(path) for path in sorted((ROOT / "demo/heldout").glob("*.png"))[:9]]


def test_golden_rows_are_answered_as_fp32_answers_them(model):
    cosines = check(model, load_golden(MODEL, model.manifest))
    assert set(cosines) == set(Tower)
    assert min(cosines.values()) >= LEAST_GOLDEN[model.plan.precision]


def test_its_vectors_are_the_cpu_providers(model, pictures):
    on_cpu = EmbeddingModel.load(MODEL, planned(CPU, model.plan.precision))
    images = np.sum(model.embed_images(pictures) * on_cpu.embed_images(pictures), axis=1)
    texts = np.sum(model.embed_texts(TEXTS) * on_cpu.embed_texts(TEXTS), axis=1)
    assert min(*images, *texts) >= LEAST_AGREEMENT[model.plan.precision]


def test_what_a_row_gives_depends_little_on_the_others_on_a_gpu_and_not_at_all_on_openvino(model, pictures):
    """The same rows alone, twice, and in batches of every size up to nine: each bit equal on a CPU; on a GPU a kernel
    is chosen by the batch, and cosines stay within 1e-4 of one.
    """
    rows = {
        Tower.VISION: [model.prepare_image(picture) for picture in pictures],
        Tower.TEXT: [model.prepare_text(text).row for text in TEXTS],
    }
    whole = EmbeddingModel.load(MODEL, model.plan.with_rows(None))
    for tower, several in rows.items():
        alone = np.concatenate([whole.run(tower, [row]) for row in several])
        assert np.array_equal(np.concatenate([whole.run(tower, [row]) for row in several]), alone)
        for size in range(2, len(several) + 1):
            together = whole.run(tower, several[:size])
            if model.plan.provider == CUDA:
                assert np.sum(together * alone[:size], axis=1).min() >= 1 - 1e-4
            else:
                assert np.array_equal(together, alone[:size])


@on_openvino
@pytest.mark.parametrize("precision", LEAST_GOLDEN)
@pytest.mark.parametrize("tower", Tower)
def test_openvino_takes_the_whole_graph(tower, precision):
    """Nodes that a provider does not know run on the CPU provider in silence; here there is none."""
    wanted = planned(OPENVINO, precision)
    options = session_options(wanted)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = GraphSession(MODEL / Manifest.load(MODEL).artifact(tower, precision).graph.path, wanted, options)
    assert session.run(session.noise()).shape == (1, Manifest.load(MODEL).dimensions)


@on_openvino
def test_openvinos_threads_go_wherever_there_is_room(pictures):
    """Pinned, as OpenVINO does by itself, two towers or two workers would share one core and leave another idle."""
    wanted = dataclasses.replace(planned(OPENVINO, Precision.INT8), intra_op_threads=2)
    model = EmbeddingModel.load(MODEL, wanted)
    allowed = set()
    for picture in pictures:
        model.embed_images([picture])
        allowed |= {frozenset(os.sched_getaffinity(int(task.name))) for task in Path("/proc/self/task").iterdir()}
    assert allowed == {frozenset(os.sched_getaffinity(0))}


@on_openvino
def test_a_device_that_openvino_does_not_have_is_refused_and_the_next_one_serves():
    """It falls back to the CPU provider in silence; that is not what was planned."""
    absent = dataclasses.replace(planned(OPENVINO, Precision.INT8), provider_options={"device_type": "NPU"})
    with pytest.raises(ProviderUnavailable, match=OPENVINO):
        EmbeddingModel.load(MODEL, absent)
    cpu = dataclasses.replace(read_cpu_budget(), isa=("avx_vnni",))  # on which OpenVINO goes first
    manifest = Manifest.load(MODEL)
    candidates = (absent, *plans(available_providers(), cpu, manifest, Wishes()))
    model = PlannedModel(
        directory=MODEL, manifest=manifest, plans=candidates, towers=manifest.tower_names, cache=None
    ).open()
    assert model.plan.place == "int8 on OpenVINOExecutionProvider"
    assert model.plan.provider_options == {"device_type": "CPU"}
    assert len(model.plan.refused) == 1


def test_a_server_on_the_device_answers_as_the_model_does(model, start):
    """DEVICE by name: /health says where it runs, and the vectors are those of the session tested above."""
    device, precision = DEVICE[model.plan.provider], model.plan.precision
    server = start(MODEL=str(MODEL), DEVICE=device, PRECISION=precision)
    (health,) = get(f"{server.url}/health")["models"]
    assert (health["provider"], health["precision"]) == (model.plan.provider, precision)
    assert health["refused"] == []
    path = ROOT / "demo/heldout/noto-v1--pizza.png"
    body = json.dumps({"input": ["pizza", data_uri(path.read_bytes())]}).encode()
    answer = get(urllib.request.Request(f"{server.url}/v1/embeddings", body, {"Content-Type": "application/json"}))
    got = np.array([item["embedding"] for item in answer["data"]], np.float32)
    wanted = np.concatenate([model.embed_texts(["pizza"]), model.embed_images([Image.open(path)])])
    assert np.sum(got * wanted, axis=1).min() >= 1 - 1e-4


@pytest.mark.parametrize("provider", DEVICE)
def test_a_device_asked_for_by_name_that_is_not_here_stops_the_start(provider, tmp_path):
    """With the sentence that says what to install, and no start on the CPU instead."""
    if provider in available_providers():
        pytest.skip(f"{provider} is in this environment")
    device = DEVICE[provider]
    server = Server(tmp_path / "log.txt", MODEL=str(MODEL), DEVICE=device)
    assert server.process.wait(60) != 0
    log = server.log.read_text()
    assert f"device '{device}': onnxruntime here offers" in log
    assert f"install siglip-edge[{device}]" in log


def get(request: str | urllib.request.Request) -> dict:
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
