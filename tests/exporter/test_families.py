"""A family of checkpoints is one module: found, exported and served without a change outside its file."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from siglip_edge.exporter import families
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.export import Order, export
from siglip_edge.runtime.artifacts.manifest import Cosine, Manifest, Precision, Tower
from siglip_edge.runtime.known_models.table import known_models
from siglip_edge.runtime.open_model import open_model

FAKE = """from siglip_edge.exporter.families.siglip.family import Siglip
FAMILY = type("Fake", (Siglip,), {"name": "fake", "model_type": "fake"})()
"""
TEXTS_ALONE = """from dataclasses import replace
from siglip_edge.exporter.families.siglip.family import Siglip
from siglip_edge.runtime.artifacts.manifest import Cosine, Towers

class TextsAlone(Siglip):
    name = model_type = "texts"

    def contract(self, checkpoint):
        whole = super().contract(checkpoint)
        return replace(whole, towers=Towers(text=whole.towers.text), scoring=Cosine())

FAMILY = TextsAlone()
"""


@pytest.fixture
def more_families(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder beside the exporter's own families."""
    folder = tmp_path / "families"
    folder.mkdir()
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(folder)])
    return folder


def retyped(checkpoint: Path, target: Path, model_type: str) -> Path:
    """A copy of a checkpoint that says it is of another model type."""
    shutil.copytree(checkpoint, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    return target


def test_every_family_is_found():
    assert {"siglip", "clip", "metaclip_2"} <= {family.name for family in families.families()}


def test_two_lines_make_a_family(more_families, order, exported, checkpoint_directory, tmp_path):
    """It exports what SigLIP exports, and its model is served."""
    (more_families / "fake.py").write_text(FAKE)
    source = retyped(checkpoint_directory, tmp_path / "checkpoint/tiny", "fake")
    wanted = dataclasses.replace(order, source=str(source), output=tmp_path, precisions=[Precision.INT8])
    directory = export(wanted)
    manifest, original = Manifest.load(directory), Manifest.load(exported)
    assert manifest.family == "fake"
    assert manifest.space_id == original.space_id
    ours, theirs = open_model(directory), open_model(exported)
    assert np.array_equal(ours.embed_texts(["a cat"]), theirs.embed_texts(["a cat"]))


def test_one_tower_is_a_whole_model(more_families, order, checkpoint_directory, tmp_path):
    """A family of texts alone is exported without calibration images, in every precision, with its report."""
    (more_families / "texts.py").write_text(TEXTS_ALONE)
    source = retyped(checkpoint_directory, tmp_path / "checkpoint/tiny", "texts")
    wanted = Order(source=str(source), output=tmp_path / "models", precisions=list(Precision))
    directory = export(wanted)
    manifest = Manifest.load(directory)
    assert manifest.tower_names == (Tower.TEXT,)
    assert manifest.scoring == Cosine()
    assert not list(directory.glob("vision*"))
    model = open_model(directory)
    assert model.embed_texts(["a cat", "a dog"]).shape == (2, manifest.dimensions)
    assert model.shorten(model.embed_texts(["a cat"]), 8).shape == (1, 8)


def test_a_checkpoint_of_no_family_names_its_type_and_the_families(checkpoint_directory, tmp_path):
    source = retyped(checkpoint_directory, tmp_path / "tiny", "blip")
    with pytest.raises(
        ExportError, match=r"no family of checkpoints knows model type 'blip'; known: .*siglip.*docs/export.md"
    ):
        families.family_of(str(source))


def test_a_path_that_leads_nowhere_is_no_hub_id(tmp_path, monkeypatch):
    """No hub is asked for it, and none is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for source in (str(tmp_path / "none"), "./none", "../none", "~/none"):
        with pytest.raises(ExportError, match=rf"^{source}: no such directory$"):
            families.family_of(source)
    with pytest.raises(ExportError, match=r"^\./file: not a directory$"):
        families.family_of("./file")


def test_nothing_outside_the_families_knows_an_architecture():
    """No tower of a checkpoint, no name of a family."""
    exporter = Path(families.__file__).resolve().parents[1]
    outside = [path for path in exporter.rglob("*.py") if "families" not in path.parts]
    assert outside
    for path in outside:
        assert not [
            word
            for word in ("text_model", "vision_config", "SiglipModel", "families.siglip")
            if word in path.read_text()
        ]


def test_every_known_model_is_of_a_family_or_says_why_not():
    """docs/models.md promises no export that the exporter refuses."""
    here = {family.name for family in families.families()}
    unknown = {model.family for model in known_models() if model.refused is None} - here
    assert not unknown
