"""`siglip-edge upgrade`: the manifest in the newest format, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from siglip_edge.cli.main import main
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.open_model import open_model

EMOJI = Path(__file__).parents[2] / "quantized_models/emoji-siglip"


@pytest.fixture
def directory(tmp_path) -> Path:
    """A copy of the shipped model, which is of version 1."""
    return shutil.copytree(EMOJI, tmp_path / "emoji")


def upgrade(directory: Path):
    return CliRunner().invoke(main, ["upgrade", str(directory)])


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_only_the_manifest_is_rewritten(directory):
    """Every other file keeps each byte, and none is added."""
    before = contents(directory)
    assert json.loads(before["manifest.json"])["format_version"] == 1
    result = upgrade(directory)
    assert result.exit_code == 0, result.output
    assert "manifest of format 2; space e68a93149354192d as before" in result.output
    after = contents(directory)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"manifest.json"}
    assert json.loads(after["manifest.json"])["format_version"] == 2


def test_an_upgraded_model_gives_the_same_vectors_in_the_same_space(directory):
    """Bit for bit, at full length and shortened."""
    assert upgrade(directory).exit_code == 0
    picture = Image.linear_gradient("L")
    old, new = (open_model(one, Wishes(device="cpu")) for one in (EMOJI, directory))
    texts = old.embed_texts(["a pizza", "an octopus"])
    assert np.array_equal(new.embed_texts(["a pizza", "an octopus"]), texts)
    assert np.array_equal(new.embed_images([picture]), old.embed_images([picture]))
    assert np.array_equal(new.shorten(texts, 64), old.shorten(texts, 64))
    assert new.manifest.space_id == old.manifest.space_id


def test_an_upgrade_of_an_upgraded_model_changes_nothing(directory):
    upgrade(directory)
    before = contents(directory)
    assert upgrade(directory).exit_code == 0
    assert contents(directory) == before


def test_a_model_that_cannot_be_read_is_left_as_it_is(directory):
    """With one sentence, and exit status 1."""
    (directory / "manifest.json").write_text('{"format_version": 3}')
    before = contents(directory)
    result = upgrade(directory)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "format 3" in result.output
    assert contents(directory) == before


def test_a_manifest_that_cannot_be_written_is_left_as_it_is(directory, monkeypatch):
    """The new one is written beside it first."""
    before = contents(directory)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    result = upgrade(directory)
    assert result.exit_code == 1
    assert "No space left on device; the manifest is as it was" in result.output
    assert contents(directory) == before
    Manifest.load(directory)
