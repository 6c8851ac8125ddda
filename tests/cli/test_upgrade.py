"""`siglip-edge upgrade`: the manifest in the newest format, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from siglip_edge.cli.main import main
from siglip_edge.runtime.artifacts.manifest import ColorProfiles, Manifest
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.open_model import open_model

EMOJI = Path(__file__).parents[2] / "quantized_models/emoji-siglip"
VERSION_1 = Path(__file__).parents[1] / "emoji_siglip_version_1.json"


@pytest.fixture
def directory(tmp_path) -> Path:
    """A copy of the shipped model, as it was in version 1."""
    copy = shutil.copytree(EMOJI, tmp_path / "emoji")
    shutil.copy(VERSION_1, copy / "manifest.json")
    return copy


def upgrade(directory: Path, *options: str):
    return CliRunner().invoke(main, ["upgrade", str(directory), *options])


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
    picture = Image.linear_gradient("L")
    old = open_model(directory, Wishes(device="cpu"))
    assert upgrade(directory).exit_code == 0
    new = open_model(directory, Wishes(device="cpu"))
    texts = old.embed_texts(["a pizza", "an octopus"])
    assert np.array_equal(new.embed_texts(["a pizza", "an octopus"]), texts)
    assert np.array_equal(new.embed_images([picture]), old.embed_images([picture]))
    assert np.array_equal(new.shorten(texts, 64), old.shorten(texts, 64))
    assert new.manifest.space_id == old.manifest.space_id


def test_a_model_adopts_srgb_when_it_is_asked_to(directory):
    """Its space is then another: that of a new export. Vectors of pictures without a profile stay."""
    plain = Image.linear_gradient("L")
    before = open_model(directory, Wishes(device="cpu"))
    result = upgrade(directory, "--to-srgb")
    assert "space 83e61abac49fdd26, before e68a93149354192d" in result.output
    after = open_model(directory, Wishes(device="cpu"))
    assert after.manifest == Manifest.load(EMOJI)
    assert after.manifest.vision.color_profiles is ColorProfiles.TO_SRGB
    assert np.array_equal(after.embed_images([plain]), before.embed_images([plain]))
    assert "83e61abac49fdd26 as before" in upgrade(directory, "--to-srgb").output


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
