"""Providers and precisions side by side: correct plans are timed, wrong plans are named."""

import sys

import pytest

from siglip_edge.bench.providers import load, main, planned
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.errors import SelfTestFailed
from tests.tiny_model import add_precision, collapse, write_model


@pytest.fixture
def directory(tmp_path):
    return add_precision(write_model(tmp_path / "tiny"), Precision.FP32)


def run(capsys, monkeypatch, *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["siglip_edge.bench.providers", *arguments])
    main()
    return capsys.readouterr().out.splitlines()


def test_every_precision_has_its_row(directory, capsys, monkeypatch):
    """Two cosines, CPU and wall time of each tower and batch, load time and memory."""
    out = run(capsys, monkeypatch, str(directory), "--forwards", "2", "--rows", "1,3")
    rows = [line.split(" | ") for line in out if line.startswith(("| int8 on", "| fp32 on"))]
    assert {row[0] for row in rows} >= {"| int8 on CPU", "| fp32 on CPU"}
    assert {len(row) for row in rows} == {9}
    assert all("1.00000" in row for row in rows)


def test_what_answers_wrongly_is_named_and_not_timed(directory, capsys, monkeypatch):
    collapse(directory, Precision.INT8)
    with pytest.raises(SelfTestFailed):
        load(directory, planned(directory, 1)[0])
    out = run(capsys, monkeypatch, str(directory), "--forwards", "1")
    assert any(line.startswith("refused: int8 on CPUExecutionProvider: tiny: the text tower") for line in out)
    assert not any(line.startswith("| int8") for line in out)
