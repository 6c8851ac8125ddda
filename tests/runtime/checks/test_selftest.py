"""The self-test: every golden row, and what its company does to a row's bits; what passed is remembered."""

import dataclasses
import io
from typing import cast

import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.selftest import GoldenRow, check_all, mark_of
from siglip_edge.runtime.errors import BatchChangesBits, SelfTestFailed
from siglip_edge.runtime.execution.plan import CPU, CUDA, BatchLimit, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from tests.tiny_model import write_model

TEXTS = ["one", "two", "three"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


class Recorded(EmbeddingModel):
    """A real model that records what each run was given."""

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self.runs: list[tuple[Tower, int] | tuple[Tower, int, str]] = []

    def run(self, tower, rows, *, crowded=False):
        self.runs.append((tower, len(rows), "crowded") if crowded else (tower, len(rows)))
        return super().run(tower, rows, crowded=crowded)


@pytest.fixture
def model(directory) -> Recorded:
    alone = plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes(batch_size=1))
    return cast("Recorded", Recorded.load(directory, alone))


@pytest.fixture
def rows(directory, model) -> list[GoldenRow]:
    """Three texts and a picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    texts = zip(TEXTS, model.embed_texts(TEXTS), strict=True)
    picture = GoldenRow(png=buffer.getvalue(), embedding=model.embed_images([Image.open(buffer)])[0].tobytes())
    model.runs.clear()
    return [*(GoldenRow(text=text, embedding=row.tobytes()) for text, row in texts), picture]


ALL = [(Tower.VISION, 1), (Tower.TEXT, 3)]


def test_what_passed_is_remembered(model, rows, tmp_path):
    mark = mark_of(model, tmp_path / "passed")
    assert mark is not None
    assert not mark.exists()
    check_all(model, rows, mark)
    assert model.runs == ALL
    assert mark.exists()


def test_without_a_place_to_remember_nothing_is(model, rows, tmp_path):
    (tmp_path / "file").touch()
    for place in (None, tmp_path / "file/passed"):
        model.runs.clear()
        check_all(model, rows, mark_of(model, place))
        assert model.runs == ALL


def test_another_onnxruntime_or_plan_has_not_passed(model, tmp_path, monkeypatch):
    mark = mark_of(model, tmp_path)
    planned = model.plan
    model.plan = dataclasses.replace(planned, intra_op_threads=7)
    assert mark_of(model, tmp_path) != mark
    model.plan = planned
    assert mark_of(model, tmp_path) == mark
    monkeypatch.setattr(selftest, "machine_facts", lambda: {"onnxruntime": "another"})
    assert mark_of(model, tmp_path) != mark


def test_a_failure_is_not_remembered(model, rows, tmp_path):
    wrong = [GoldenRow(text="one", embedding=np.eye(12, dtype=np.float32)[0].tobytes()), *rows]
    mark = mark_of(model, tmp_path)
    assert mark is not None
    with pytest.raises(SelfTestFailed, match="text tower"):
        check_all(model, wrong, mark)
    assert model.runs == [(Tower.VISION, 1), (Tower.TEXT, 4)]
    assert not mark.exists()


def test_a_server_of_one_tower_tests_that_one(directory, model, rows):
    text = EmbeddingModel.load(directory, model.plan, towers=[Tower.TEXT])
    assert selftest.check(text, rows) == {Tower.TEXT: 1.0}


def test_what_runs_rows_together_shows_at_the_first_start_that_they_keep_their_bits(model, rows):
    """Each alone, then in every company that a run may hold, on all threads and on a share of them."""
    model.plan = dataclasses.replace(model.plan.with_rows(3), runs_at_once=2)
    check_all(model, rows, None)
    assert model.runs == ALL + [
        (tower, *run)
        for tower in model.towers
        for run in ((1,), (1,), (1,), (2,), (2, "crowded"), (3,), (3, "crowded"))
    ]


def test_a_tower_that_runs_its_rows_alone_is_not_asked(model):
    """Beside one whose rows share runs."""
    model.plan = dataclasses.replace(model.plan, batch_limits={Tower.TEXT: BatchLimit(rows=2)}, runs_at_once=1)
    selftest.check_bits(model)
    assert model.runs == [(Tower.TEXT, 1), (Tower.TEXT, 1), (Tower.TEXT, 2)]


@pytest.mark.parametrize(("provider", "rows"), [(CPU, 1), (CUDA, 32)])
def test_a_plan_that_promises_no_bits_in_company_is_not_asked(model, provider, rows):
    """One row per run has no company; a GPU's rows are within a cosine of each other, not equal."""
    model.plan = dataclasses.replace(model.plan.with_rows(rows), provider=provider)
    selftest.check_bits(model)
    assert model.runs == []


@pytest.mark.parametrize("where", [False, True])
def test_a_batch_that_changes_bits_fails(model, monkeypatch, where):
    """Be it on all threads or on a share of them."""
    model.plan, run = dataclasses.replace(model.plan.with_rows(4), runs_at_once=2), model.run
    monkeypatch.setattr(
        model,
        "run",
        lambda tower, rows, *, crowded=False: run(tower, rows) + np.float32(len(rows) == 4 and crowded == where),
    )
    with pytest.raises(BatchChangesBits, match="a batch of 4 gives the vision tower's rows other bits"):
        selftest.check_bits(model)
