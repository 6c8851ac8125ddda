"""Only what is needed: the asked towers, loaded when they run, given back when they do not."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.execution.plan import CPU, BatchLimit, ExecutionPlan, Wishes, plan
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.execution.session_pair import SessionPair
from siglip_edge.runtime.execution.tower import TowerOnDemand
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def planned(directory) -> ExecutionPlan:
    return plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes())


def test_at_start_everything_asked_for_is_loaded(directory, planned):
    assert EmbeddingModel.load(directory, planned).loaded() == tuple(Tower)


def test_each_tower_has_its_own_number_of_rows_per_run(directory, planned, monkeypatch):
    runs: list[int] = []
    run = GraphSession.run

    def recorded(self, batch):
        runs.extend({len(array) for array in batch.values()})
        return run(self, batch)

    monkeypatch.setattr(GraphSession, "run", recorded)
    limits = {Tower.VISION: BatchLimit(rows=1), Tower.TEXT: BatchLimit(rows=2)}
    model = EmbeddingModel.load(directory, replace(planned, batch_limits=limits))
    model.embed_texts(["a", "b", "c"])
    model.embed_images([Image.new("RGB", (4, 4))] * 2)
    assert runs == [2, 1, 1, 1]


def test_lazily_a_tower_is_loaded_by_its_first_run(directory, planned):
    model = EmbeddingModel.load(directory, planned, lazily=True)
    assert (model.towers, model.loaded()) == (tuple(Tower), ())
    model.embed_texts(["a"])
    assert model.loaded() == (Tower.TEXT,)


def test_an_unloaded_tower_comes_back_with_the_same_vectors(directory, planned):
    model = EmbeddingModel.load(directory, planned)
    before = model.embed_texts(["a"])
    model.unload(Tower.TEXT)
    assert model.loaded() == (Tower.VISION,)
    assert np.array_equal(model.embed_texts(["a"]), before)
    assert model.loaded() == tuple(Tower)


def test_a_text_server_needs_no_vision_artifact_and_refuses_images(directory, planned, tmp_path):
    """Its vectors are those of the whole model."""
    whole = EmbeddingModel.load(directory, planned)
    text = write_model(tmp_path / "tiny")
    (text / "vision_int8.onnx").unlink()
    model = EmbeddingModel.load(text, planned, towers=[Tower.TEXT])
    assert np.array_equal(model.embed_texts(["a"]), whole.embed_texts(["a"]))
    with pytest.raises(UnsupportedInput, match="no vision tower is served here: text only"):
        model.prepare_image(Image.new("RGB", (4, 4)))


def test_a_vision_server_needs_no_tokenizer_or_vocabulary_and_refuses_texts(directory, planned, tmp_path):
    whole = EmbeddingModel.load(directory, planned)
    vision = write_model(tmp_path / "tiny")
    for name in ("text_int8.onnx", "vocabulary_int8.bin", "tokenizer.json"):
        (vision / name).unlink()
    model = EmbeddingModel.load(vision, planned, towers=[Tower.VISION])
    picture = Image.linear_gradient("L")
    assert np.array_equal(model.embed_images([picture]), whole.embed_images([picture]))
    with pytest.raises(UnsupportedInput, match="no text tower is served here: vision only"):
        model.prepare_text("a")


class Session(SessionPair):
    """A pair without sessions, which gives back the rows of its batch."""

    def __init__(self) -> None:
        """Open nothing."""

    def run(self, batch, *, crowded=False):
        return batch["rows"]

    def shrink(self):
        pass


def batch(value: float) -> dict[str, np.ndarray]:
    """A batch of one row."""
    return {"rows": np.full(1, value, np.float32)}


def test_what_only_loading_needed_is_forgotten_at_the_first_rest_after_each_load(monkeypatch):
    forgotten = []
    monkeypatch.setattr("siglip_edge.runtime.execution.tower.forget_code", lambda: forgotten.append(1))
    tower = TowerOnDemand(Session)
    tower.rest()
    assert not forgotten, "nothing was loaded yet"
    for loads in (1, 2):
        tower.load()
        tower.rest()
        tower.rest()
        assert len(forgotten) == loads
        tower.unload()


def test_threads_that_come_while_a_tower_loads_share_the_one_load():
    entered, release = threading.Event(), threading.Event()
    loads: list[str] = []

    def load() -> Session:
        loads.append("a load")
        entered.set()
        release.wait()
        return Session()

    tower = TowerOnDemand(load)
    threads = [threading.Thread(target=tower.run, args=(batch(0),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    entered.wait()
    release.set()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_failed_load_fails_its_run_and_the_next_run_tries_again():
    attempts = iter([OSError("no memory"), None])

    def load() -> Session:
        if error := next(attempts):
            raise error
        return Session()

    tower = TowerOnDemand(load)
    with pytest.raises(OSError, match="no memory"):
        tower.run(batch(0))
    assert tower.run(batch(1)) == [1]


def test_a_tower_that_fails_its_test_does_not_stay_loaded_and_is_tried_again():
    tower, failures = TowerOnDemand(Session), iter([ValueError("wrong"), None])

    def test() -> None:
        assert tower.run(batch(1)) == [1]  # the test runs rows through the tower that is being loaded
        if failure := next(failures):
            raise failure

    tower.test = test
    with pytest.raises(ValueError, match="wrong"):
        tower.run(batch(0))
    assert not tower.is_loaded
    assert tower.run(batch(0)) == [0]


def test_nobody_is_answered_before_the_test_has_passed():
    """Of four threads that need the tower one loads and tests it; the others wait for both."""
    testing, release = threading.Event(), threading.Event()
    answered: list[np.ndarray] = []
    tests: list[str] = []
    tower = TowerOnDemand(Session)

    def test() -> None:
        tests.append("a test")
        testing.set()
        release.wait()

    tower.test = test
    threads = [threading.Thread(target=lambda: answered.append(tower.run(batch(0)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    testing.wait()
    assert not answered
    release.set()
    for thread in threads:
        thread.join()
    assert (len(answered), len(tests)) == (4, 1)


def test_every_load_is_tested_from_then_on(directory, planned):
    """The first one and the one after an unload; a run in between is not."""
    tested: list[Tower] = []
    model = EmbeddingModel.load(directory, planned, lazily=True)
    model.test_loads(tested.append)
    for _ in range(2):
        model.embed_texts(["a"])
    model.unload(Tower.TEXT)
    model.embed_texts(["a"])
    assert tested == [Tower.TEXT, Tower.TEXT]
