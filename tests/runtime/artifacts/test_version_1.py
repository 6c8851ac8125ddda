"""Model directories of version 1 are read as they are, and keep their space."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from siglip_edge.runtime.artifacts.manifest import (
    FullLength,
    Manifest,
    Precision,
    RotationSpec,
    Sigmoid,
    Squash,
    Tower,
    rules_of,
)
from siglip_edge.runtime.errors import ManifestInvalid
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.open_model import open_model
from tests.tiny_model import EOS, LENGTH, PAD, PATCH, SIZE, write_model

EMOJI = Path(__file__).parents[3] / "quantized_models/emoji-siglip"
VERSION_1 = Path(__file__).parents[2] / "emoji_siglip_version_1.json"
"""The manifest that the shipped model had in version 1."""


def version_1(directory: Path) -> Path:
    """The tiny model's directory, with its manifest as version 1 wrote it."""
    manifest = msgspec.to_builtins(Manifest.load(directory))
    vision, text = manifest["towers"]["vision"], manifest["towers"]["text"]
    old = {
        "format_version": 1,
        "name": "tiny",
        "source": "tests/tiny_model.py",
        "dimensions": 12,
        "image": {
            "size": SIZE,
            "patch_size": PATCH,
            "resample": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "text": {
            "length": LENGTH,
            "pad_id": PAD,
            "eos_id": EOS,
            "lowercase": True,
            "strip_punctuation": False,
            "tokenizer": text["tokenizer"],
        },
        "logit_scale": 10.0,
        "logit_bias": -2.0,
        "zero_shot_template": "This is a photo of {}.",
        "space_id": "tiny-space",
        "artifacts": [
            {"tower": "vision", "precision": "int8", **vision["artifacts"]["int8"]},
            {"tower": "text", "precision": "int8", **text["artifacts"]["int8"]},
        ],
        "toolchain": {"onnx": "1.19.0"},
        "created": "2026-11-20T12:00:00+00:00",
        "golden": manifest["golden"],
    }
    (directory / "manifest.json").write_text(json.dumps(old))
    return directory


@pytest.fixture
def directory(tmp_path) -> Path:
    return version_1(write_model(tmp_path / "tiny"))


def test_a_directory_of_version_1_says_all_that_it_said(directory):
    manifest = Manifest.load(directory)
    assert (manifest.format_version, manifest.name, manifest.space_id) == (2, "tiny", "tiny-space")
    assert manifest.tower_names == tuple(Tower)
    assert manifest.vision.geometry == Squash(size=SIZE, patch_size=PATCH)
    assert (manifest.vision.inputs, manifest.text.inputs) == (("pixel_values",), ("token_embeddings",))
    assert (manifest.text.length, manifest.text.padding, manifest.text.suffix_ids) == (LENGTH, FullLength(), (EOS,))
    assert (manifest.text.lowercase, manifest.text.packed_tokenizer, manifest.text.prompts) == (True, None, {})
    assert manifest.scoring == Sigmoid(scale=10.0, bias=-2.0)
    assert manifest.shortening is None
    assert manifest.toolchain == {"onnx": "1.19.0"}


def test_it_gives_the_vectors_that_it_gives_as_version_2(tmp_path):
    """Its golden rows, too, are tested at the start."""
    new = open_model(write_model(tmp_path / "new"), Wishes(device="cpu"))
    old = open_model(version_1(write_model(tmp_path / "old")), Wishes(device="cpu"))
    assert np.array_equal(old.embed_texts(["a text"]), new.embed_texts(["a text"]))


def test_it_is_the_manifest_that_this_version_writes(tmp_path):
    """Part by part, but for what version 1 did not know."""
    new = Manifest.load(write_model(tmp_path / "tiny"))
    old = Manifest.load(version_1(tmp_path / "tiny"))
    assert msgspec.structs.replace(old, toolchain={}, rules=rules_of(old)) == new


def test_the_shipped_models_description_is_not_changed_by_the_new_format(tmp_path):
    old = json.loads(VERSION_1.read_text())
    (tmp_path / "manifest.json").write_bytes(VERSION_1.read_bytes())
    manifest = Manifest.load(tmp_path)
    assert manifest.space_id == old["space_id"] == "e68a93149354192d"
    assert manifest.scoring == Sigmoid(scale=22.40703582763672, bias=-9.4765625)
    assert manifest.precisions() == (Precision.FP16, Precision.INT8, Precision.INT4)
    assert isinstance(manifest.shortening, RotationSpec)
    assert manifest.shortening.file.path == "rotation.bin"
    assert manifest.text.packed_tokenizer is not None
    assert {record.path for record in manifest.files()} <= {path.name for path in EMOJI.iterdir()}


@pytest.mark.parametrize("missing", ["image", "logit_scale", "artifacts", "space_id"])
def test_half_a_manifest_of_version_1_is_refused_by_the_field_that_is_missing(directory, missing):
    path = directory / "manifest.json"
    old = json.loads(path.read_text())
    del old[missing]
    path.write_text(json.dumps(old))
    with pytest.raises(ManifestInvalid, match=f"`{missing}`.*run the export again"):
        Manifest.load(directory)


def test_a_wrong_part_of_version_1_is_refused_too(directory):
    """What upgrading only copies is validated afterwards."""
    path = directory / "manifest.json"
    old = json.loads(path.read_text())
    old["artifacts"][0]["precision"] = "int3"
    path.write_text(json.dumps(old))
    with pytest.raises(ManifestInvalid, match="int3"):
        Manifest.load(directory)


def test_a_file_outside_the_directory_is_refused_in_version_1_too(directory):
    path = directory / "manifest.json"
    old = json.loads(path.read_text())
    old["text"]["tokenizer"]["path"] = "../secret"
    path.write_text(json.dumps(old))
    with pytest.raises(ManifestInvalid, match="outside the model directory"):
        Manifest.load(directory)


def test_what_is_saved_is_of_version_2(directory):
    manifest = Manifest.load(directory)
    manifest.save(directory)
    assert json.loads((directory / "manifest.json").read_text())["format_version"] == 2
    assert msgspec.structs.replace(Manifest.load(directory), rules=()) == msgspec.structs.replace(manifest, rules=())
