"""The first plan that is right on this machine serves; those before it are named with what is wrong with them."""

import dataclasses
import gc
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import msgspec
import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime import model as module
from siglip_edge.runtime import open_model as loading
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower, Towers
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.errors import ArtifactCorrupt, ProviderUnavailable, SelfTestFailed
from siglip_edge.runtime.execution.plan import CPU, CUDA, ExecutionPlan, Wishes
from siglip_edge.runtime.execution.session import GraphSession, available_providers
from siglip_edge.runtime.execution.tower import open_sessions
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import LoadTime, PlannedModel, open_model, plan_model
from tests.tiny_model import add_precision, collapse, rewrite, write_model

INT8 = ExecutionPlan(provider=CPU, precision=Precision.INT8, intra_op_threads=1, reason="first").with_rows(1)
FP32 = dataclasses.replace(INT8, precision=Precision.FP32, reason="second")


@pytest.fixture
def directory(tmp_path):
    """A model of two precisions, both right."""
    return add_precision(write_model(tmp_path / "tiny"), Precision.FP32)


def opened(directory, plans, *, towers=tuple(Tower), cache=None, when=LoadTime.AT_ONCE) -> EmbeddingModel:
    """The model by the first of these plans that is right here."""
    planned = PlannedModel(
        directory=directory, manifest=Manifest.load(directory), plans=tuple(plans), towers=tuple(towers), cache=cache
    )
    return planned.open(when)


def test_the_best_that_is_right_refuses_nothing(directory, caplog):
    model = opened(directory, [INT8, FP32])
    assert model.plan == INT8
    assert caplog.records == []


@pytest.mark.parametrize("change", [lambda w: w[::-1].copy(), np.zeros_like, lambda w: w * np.float32("nan")])
def test_what_answers_wrongly_is_refused_and_the_next_one_serves(directory, caplog, change):
    """Shuffled, collapsed or not a number; at level ERROR, with the sentence of the self-test."""
    right = opened(directory, [FP32]).embed_texts(["a text"])
    rewrite(directory, "text_int8.onnx", change)
    with caplog.at_level(logging.ERROR, "siglip_edge"):
        model = opened(directory, [INT8, FP32])
    assert (model.plan.place, model.plan.reason) == (FP32.place, "second")
    (refused,) = model.plan.refused
    assert refused.startswith("int8 on CPUExecutionProvider: tiny: the text tower")
    assert refused in caplog.text
    assert np.array_equal(model.embed_texts(["a text"]), right)


def test_what_cannot_be_loaded_is_refused_and_the_next_one_serves(directory):
    (directory / "vision_int8.onnx").write_bytes(b"not a graph")
    model = opened(directory, [INT8, FP32])
    assert model.plan.place == FP32.place
    assert "vision_int8.onnx" in model.plan.refused[0]


def test_what_cannot_be_run_is_refused_and_the_next_one_serves(directory):
    """Loads, because shapes are only known at the run, and then multiplies by a matrix of the wrong height."""
    rewrite(directory, "text_int8.onnx", lambda weights: weights[:-1].copy())
    model = opened(directory, [INT8, FP32])
    assert model.plan.place == FP32.place
    assert "fails when it is run" in model.plan.refused[0]


@pytest.mark.skipif(CUDA in available_providers(), reason="CUDA is here")
def test_a_provider_that_is_not_obtained_is_refused_and_the_next_one_serves(directory):
    model = opened(directory, [dataclasses.replace(FP32, provider=CUDA), INT8])
    assert model.plan.place == INT8.place
    assert "fp32 on CUDAExecutionProvider" in model.plan.refused[0]
    assert "was planned but onnxruntime here offers" in model.plan.refused[0]


@pytest.mark.parametrize(
    ("candidates", "error"),
    [
        ([INT8], SelfTestFailed),
        ([INT8, dataclasses.replace(INT8, intra_op_threads=2)], SelfTestFailed),
        pytest.param(
            [dataclasses.replace(FP32, provider=CUDA), INT8],
            ProviderUnavailable,
            marks=pytest.mark.skipif(CUDA in available_providers(), reason="CUDA is here"),
        ),
    ],
)
def test_where_none_is_right_the_first_ones_error_is_raised(directory, candidates, error):
    collapse(directory, Precision.INT8)
    with pytest.raises(error):
        opened(directory, candidates)


def test_damaged_golden_rows_condemn_no_plan(directory):
    """They are the model directory's fault, whatever the provider."""
    (directory / "golden.bin").write_bytes(b"")
    with pytest.raises(ArtifactCorrupt, match=r"golden\.bin"):
        opened(directory, [INT8, FP32])


def test_what_is_refused_leaves_memory(directory, monkeypatch):
    """The next one is loaded when the one before is gone: two base models at once are too much for an edge box."""
    collapse(directory, Precision.INT8)
    alive: list[weakref.ref] = []
    load = EmbeddingModel.load

    def watched(*args, **kwargs):
        gc.collect()
        assert all(model() is None for model in alive)
        model = load(*args, **kwargs)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(EmbeddingModel, "load", watched)
    opened(directory, [INT8, FP32])
    assert len(alive) == 2


def test_only_the_served_towers_are_tested(directory):
    """A text tower that is wrong does not matter where only images are served."""
    collapse(directory, Precision.INT8)
    assert opened(directory, [INT8, FP32], towers=[Tower.VISION]).plan == INT8


def test_each_plan_remembers_its_own_self_test(directory, tmp_path, caplog):
    """That FP32 passed says nothing about INT8: a wrong one is refused at every start."""
    collapse(directory, Precision.INT8)
    for _ in range(2):
        caplog.clear()
        assert opened(directory, [INT8, FP32], cache=tmp_path / "cache").plan.refused
        assert "the text tower" in caplog.text


@pytest.fixture
def dependent(monkeypatch) -> list[int]:
    """From here on a row's vector depends on how many rows are run with it. -> the sizes of the runs."""
    sizes: list[int] = []
    run = GraphSession.run

    def shifted(self, batch):
        (size,) = {len(array) for array in batch.values()}
        sizes.append(size)
        return run(self, batch) + np.float32(size > 2)

    monkeypatch.setattr(GraphSession, "run", shifted)
    return sizes


def test_where_a_batch_changes_bits_rows_are_run_one_by_one(directory, dependent, caplog):
    """The precision is right all the same: it is not refused, and the plan says why."""
    model = opened(directory, [INT8.with_rows(4), FP32])
    assert (model.plan.place, model.plan.refused) == (INT8.place, ())
    assert [model.plan.rows(tower) for tower in Tower] == [1, 1]
    because = "a batch of 3 gives the vision tower's rows other bits"
    assert model.plan.reason == f"first; one row per run, because {because}"
    assert f"runs one row at a time: {because}" in caplog.text
    dependent.clear()
    model.embed_texts(["a", "b", "c", "d"])
    assert dependent == [1, 1, 1, 1]


def test_batches_that_change_no_bits_are_kept_and_asked_once(directory, tmp_path, monkeypatch, caplog):
    """The first start asks; later ones remember."""
    batched, asked = INT8.with_rows(4), record(monkeypatch, selftest, "check_bits")
    for _ in range(2):
        assert opened(directory, [batched], cache=tmp_path / "cache").plan == batched
    assert [model.plan for (model,) in asked] == [batched]
    assert caplog.records == []


def test_a_start_that_repeats_another_tests_one_row_a_tower(directory, tmp_path, monkeypatch):
    """Before the tower answers; what was never tested is tested in full."""
    full, single = record(monkeypatch, loading, "check_all"), record(monkeypatch, loading, "check")
    for expected in (1, 0):
        full.clear()
        single.clear()
        opened(directory, [INT8], cache=tmp_path / "cache")
        assert len(full) == expected
        golden = sorted(len(rows) for _, rows in single)
        assert golden == [0, 1], "the tiny model has golden rows of the text tower only"


def record(monkeypatch, module: ModuleType, name: str) -> list[tuple]:
    """What the module's function is called with, from here on."""
    calls: list[tuple] = []
    function = getattr(module, name)

    def recorded(*given):
        calls.append(given)
        return function(*given)

    monkeypatch.setattr(module, name, recorded)
    return calls


class Slow:
    """Loads of the vision tower wait for `release`, and fail while `error` is set."""

    def __init__(self, monkeypatch) -> None:
        self.release = threading.Event()
        self.error: Exception | None = None
        monkeypatch.setattr(module, "open_sessions", self._open)

    def _open(self, directory, artifact, plan, *given):
        if artifact.graph.path.startswith("vision"):
            self.release.wait(30)
            if self.error and plan.precision is Precision.INT8:
                raise self.error
        return open_sessions(directory, artifact, plan, *given)


@pytest.fixture
def slow(directory, tmp_path, monkeypatch) -> Slow:
    """Of a model that an earlier start has tested."""
    opened(directory, [INT8], cache=tmp_path / "cache")
    return Slow(monkeypatch)


def test_text_first_answers_while_the_vision_tower_loads(directory, tmp_path, slow):
    """An image that comes meanwhile waits, and gets the vector that it always gets."""
    model = opened(directory, [INT8], cache=tmp_path / "cache", when=LoadTime.TEXT_FIRST)
    assert (model.loaded(), model.loading.done()) == ((Tower.TEXT,), False)
    model.embed_texts(["a text"])
    picture = Image.linear_gradient("L")
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(model.embed_images, [picture])
        assert not waiting.done()
        slow.release.set()
        assert np.array_equal(waiting.result(), opened(directory, [INT8]).embed_images([picture]))
    model.loading.result(30)
    assert model.loaded() == tuple(Tower)


def test_what_no_start_has_tested_is_loaded_whole(directory, tmp_path):
    """Only then can another plan take its place."""
    model = opened(directory, [INT8], cache=tmp_path / "new", when=LoadTime.TEXT_FIRST)
    assert (model.loaded(), model.loading.done()) == (tuple(Tower), True)


def test_a_tower_that_fails_late_is_refused_by_the_next_start(directory, tmp_path, slow):
    """Texts are answered on; `loading` has the error, and what passed once is tested in full again."""
    slow.error = ArtifactCorrupt("the vision tower is damaged")
    slow.release.set()
    model = opened(directory, [INT8, FP32], cache=tmp_path / "cache", when=LoadTime.TEXT_FIRST)
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        model.loading.result(30)
    assert model.embed_texts(["a text"]).shape == (1, 12)
    model = opened(directory, [INT8, FP32], cache=tmp_path / "cache", when=LoadTime.TEXT_FIRST)
    assert model.plan.place == FP32.place
    assert "damaged" in model.plan.refused[0]


def test_text_first_without_a_text_tower_loads_what_there_is(directory, tmp_path):
    for _ in range(2):
        model = opened(directory, [INT8], towers=[Tower.VISION], cache=tmp_path / "cache", when=LoadTime.TEXT_FIRST)
        assert (model.loaded(), model.loading.done()) == ((Tower.VISION,), True)


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """Graphs that are loaded, from here on."""
    names: list[str] = []

    def recorded(directory, artifact, *given):
        names.append(artifact.graph.path)
        return open_sessions(directory, artifact, *given)

    monkeypatch.setattr(module, "open_sessions", recorded)
    return names


def test_at_first_use_the_first_start_tests_what_no_start_has_tested(directory, tmp_path, loads):
    """It loads every tower, and gives their memory back; later starts load nothing."""
    for expected in (["text_int8.onnx", "vision_int8.onnx"], []):
        loads.clear()
        model = opened(directory, [INT8], cache=tmp_path / "cache", when=LoadTime.FIRST_USE)
        assert (sorted(loads), model.loaded()) == (expected, ())
    model.embed_texts(["a"])
    assert loads == ["text_int8.onnx"]
    model.embed_images([Image.new("RGB", (4, 4))])
    assert loads == ["text_int8.onnx", "vision_int8.onnx"]


def test_at_first_use_what_answers_wrongly_is_refused_at_the_start(directory):
    rewrite(directory, "text_int8.onnx", np.zeros_like)
    model = opened(directory, [INT8, FP32], when=LoadTime.FIRST_USE)
    assert (model.plan.precision, model.loaded()) == (Precision.FP32, ())


@pytest.mark.parametrize("when", [LoadTime.FIRST_USE, LoadTime.AT_ONCE])
def test_a_tower_is_tested_by_every_later_load_before_it_answers(directory, monkeypatch, when, caplog):
    """What is loaded then answers wrongly once: that request gets the error, the next one the right vector."""
    model = opened(directory, [INT8], when=when)
    right = opened(directory, [FP32]).embed_texts(["a text"])
    model.unload(Tower.TEXT)
    run, wrong = GraphSession.run, [True]
    monkeypatch.setattr(GraphSession, "run", lambda self, batch: (-1 if wrong else 1) * run(self, batch))
    with pytest.raises(SelfTestFailed, match="the text tower"):
        model.embed_texts(["a text"])
    assert Tower.TEXT not in model.loaded()
    wrong.clear()
    with caplog.at_level(logging.INFO, "siglip_edge"):
        assert np.array_equal(model.embed_texts(["a text"]), right)
    assert "tiny: text tower loaded and tested" in caplog.text


@pytest.mark.parametrize(
    "wishes",
    [Wishes(device="cpu"), Wishes(device="cpu", precision=Precision.FP32, intra_op_threads=1), Wishes(batch_size=2)],
)
def test_the_same_wishes_give_the_same_plan_through_every_door(directory, tmp_path, wishes):
    """`plan_model` tells what `open_model` does; the second start, from the cache, does the same."""
    planned = plan_model(directory, wishes, cache=tmp_path / "cache")
    for _ in range(2):
        assert open_model(directory, wishes, cache=tmp_path / "cache").plan == planned.plans[0]
    assert planned.open().plan == planned.plans[0]
    assert (planned.manifest, planned.towers) == (Manifest.load(directory), tuple(Tower))


def test_a_refused_plan_has_a_successor_through_every_door(directory):
    """With nothing asked for by name; the best plan's precision is wrong here."""
    collapse(directory, Precision.INT8)
    planned = plan_model(directory, Wishes(device="cpu"))
    model = open_model(directory, Wishes(device="cpu"))
    assert [one.precision for one in planned.plans] == [Precision.INT8, Precision.FP32]
    assert dataclasses.replace(model.plan, refused=()) == planned.plans[1]
    assert len(model.plan.refused) == 1


def test_a_precision_asked_for_by_name_has_no_successor(directory):
    """It is had or an error."""
    collapse(directory, Precision.INT8)
    with pytest.raises(SelfTestFailed, match="the text tower"):
        open_model(directory, Wishes(device="cpu", precision=Precision.INT8))


def test_only_towers_that_the_model_has_are_served(directory):
    """Two are asked for, one is there."""
    manifest = Manifest.load(directory)
    one = msgspec.structs.replace(manifest, towers=Towers(text=manifest.text))
    one.save(directory)
    assert open_model(directory, Wishes(device="cpu"), towers=tuple(Tower)).towers == (Tower.TEXT,)
