"""A model directory describes itself, and says in one sentence what is wrong with it."""

import json

import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower, verify_file
from siglip_edge.runtime.errors import ArtifactCorrupt, ArtifactMissing, ManifestInvalid
from tests.tiny_model import write_model


@pytest.fixture
def directory(tmp_path):
    return write_model(tmp_path / "tiny")


def edit(directory, **changes) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_manifest_survives_saving(directory, tmp_path):
    """load -> save -> load is the identity."""
    manifest = Manifest.load(directory)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest


def test_saving_leaves_nothing_beside(directory):
    before = sorted(path.name for path in directory.iterdir())
    Manifest.load(directory).save(directory)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_a_directory_without_manifest_is_named(tmp_path):
    with pytest.raises(ManifestInvalid, match="is it a model directory"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format_version": 99}, "format 99"),
        ({"dimensions": "many"}, "dimensions"),
        ({"artifacts": []}, "no artifacts"),
    ],
)
def test_a_wrong_manifest_is_refused_with_a_remedy(directory, changes, sentence):
    edit(directory, **changes)
    with pytest.raises(ManifestInvalid, match=sentence) as caught:
        Manifest.load(directory)
    assert "run the export again" in str(caught.value)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b"])
def test_no_file_lies_outside_the_directory(directory, path):
    """A manifest from elsewhere cannot make the server read the host."""
    text = json.loads((directory / "manifest.json").read_text())["text"]
    edit(directory, text=text | {"tokenizer": text["tokenizer"] | {"path": path}})
    with pytest.raises(ManifestInvalid, match="outside the model directory"):
        Manifest.load(directory)


def test_an_unreadable_manifest_is_refused(directory):
    (directory / "manifest.json").write_text('{"format_version": 1,')
    with pytest.raises(ManifestInvalid, match="run the export again"):
        Manifest.load(directory)


def test_a_flipped_bit_is_found(directory):
    """Same size, other content: the checksum tells."""
    record = Manifest.load(directory).artifact(Tower.VISION, Precision.INT8).graph
    path = directory / record.path
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArtifactCorrupt, match="sha256 differs"):
        verify_file(directory, record)


def test_a_shortened_and_a_missing_file_are_found(directory):
    record = Manifest.load(directory).text.tokenizer
    path = directory / record.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt, match="bytes"):
        verify_file(directory, record)
    path.unlink()
    with pytest.raises(ArtifactCorrupt, match="missing"):
        verify_file(directory, record)


def test_an_absent_precision_names_those_there_are(directory):
    with pytest.raises(ArtifactMissing, match=r"no text artifact in fp16 \(it has int8\)"):
        Manifest.load(directory).artifact(Tower.TEXT, Precision.FP16)
