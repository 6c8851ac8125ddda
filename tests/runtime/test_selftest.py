"""The self-test: every golden row the first time, one a tower when nothing has changed since."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from runtime import selftest
from runtime.cpu import read_cpu_budget
from runtime.errors import SelfTestFailed
from runtime.manifest import Manifest, Tower
from runtime.model import SiglipModel
from runtime.providers import CPU, Wishes, plan
from runtime.selftest import GoldenRow, check_once
from tests.tiny_model import write_model

TEXTS = ["one", "two", "three"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def model(directory, monkeypatch) -> SiglipModel:
    model = SiglipModel.load(directory, plan([CPU], read_cpu_budget(), Manifest.load(directory), Wishes()))
    model.runs = []
    run = model.run
    monkeypatch.setattr(model, "run", lambda tower, rows: (model.runs.append((tower, len(rows))), run(tower, rows))[1])
    return model


@pytest.fixture
def rows(directory, model) -> list[GoldenRow]:
    """Three texts and a picture."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    texts = zip(TEXTS, model.embed_texts(TEXTS), strict=True)
    picture = GoldenRow(png=buffer.getvalue(), embedding=model.embed_images([Image.open(buffer)])[0].tobytes())
    model.runs.clear()
    return [*(GoldenRow(text=text, embedding=row.tobytes()) for text, row in texts), picture]


ALL, ONE_EACH = [(Tower.VISION, 1), (Tower.TEXT, 3)], [(Tower.VISION, 1), (Tower.TEXT, 1)]


def test_a_start_that_repeats_another_tests_one_row_a_tower(model, rows, tmp_path):
    check_once(model, rows, tmp_path / "passed")
    assert model.runs == ALL
    model.runs.clear()
    check_once(model, rows, tmp_path / "passed")
    assert model.runs == ONE_EACH


@pytest.mark.parametrize("place", [None, "file/passed"])
def test_without_a_place_to_remember_every_start_tests_all(model, rows, tmp_path, place):
    (tmp_path / "file").touch()
    for _ in range(2):
        model.runs.clear()
        check_once(model, rows, place and tmp_path / place)
        assert model.runs == ALL


def test_another_onnxruntime_is_tested_in_full(model, rows, tmp_path, monkeypatch):
    check_once(model, rows, tmp_path)
    model.runs.clear()
    monkeypatch.setattr(selftest, "machine_facts", lambda: {"onnxruntime": "another"})
    check_once(model, rows, tmp_path)
    assert model.runs == ALL


def test_another_plan_is_tested_in_full(model, rows, tmp_path):
    check_once(model, rows, tmp_path)
    model.runs.clear()
    model.plan = dataclasses.replace(model.plan, intra_op_threads=7)
    check_once(model, rows, tmp_path)
    assert model.runs == ALL


def test_a_failure_is_not_remembered_and_fails_again(model, rows, tmp_path):
    wrong = [GoldenRow(text="one", embedding=np.eye(12, dtype=np.float32)[0].tobytes()), *rows]
    for _ in range(2):
        model.runs.clear()
        with pytest.raises(SelfTestFailed, match="text tower"):
            check_once(model, wrong, tmp_path)
        assert model.runs == [(Tower.VISION, 1), (Tower.TEXT, 4)]


def test_a_server_of_one_tower_tests_that_one(directory, model, rows):
    text = SiglipModel.load(directory, model.plan, towers=[Tower.TEXT])
    assert selftest.check(text, rows) == {Tower.TEXT: 1.0}
