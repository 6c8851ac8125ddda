"""The measurements of docs/models.md: a shape becomes a model, the figures become its row."""

import shutil
from pathlib import Path

import msgspec
import pytest

from siglip_edge.bench import shapes
from siglip_edge.runtime.known_models.table import Measurements, find

EMOJI = Path(__file__).parents[2] / "quantized_models/emoji-siglip"
PHOTOS = Path(__file__).parents[1] / "photos"


def test_every_shape_is_of_known_models():
    """And the base, which ratios refer to, is among them."""
    known = shapes.shapes()
    assert all(find(model) for shape in known.values() for model in shape.models)
    assert shapes.BASE in known[shapes.BASE_SHAPE].models


def test_ratios_are_to_the_base_of_the_same_run():
    base = {"files_mb": 400.0, "memory_mb": 270.0, "images_per_s": 10.0, "texts_per_s": 50.0}
    found = shapes.measured(base | {"images_per_s": 40.0}, base)
    assert (found.images_ratio, found.texts_ratio, found.weights) == (4.0, 1.0, "random")
    texts_alone = shapes.measured({"files_mb": 30.0, "memory_mb": 110.0, "texts_per_s": 100.0}, base)
    assert (texts_alone.images_ratio, texts_alone.texts_ratio) == (None, 2.0)


def test_figures_of_other_models_stay(tmp_path):
    """A run over one shape replaces that shape's figures only."""
    file = tmp_path / "measured.json"
    shutil.copy(shapes.RESULTS, file)
    base = {"files_mb": 400.0, "memory_mb": 270.0, "images_per_s": 10.0, "texts_per_s": 50.0}
    for model in ("google/siglip2-base-patch16-256", "google/siglip2-base-patch32-256"):
        shapes.written(file, {model: shapes.measured(base, base)}, "a machine")
    models = msgspec.json.decode(file.read_bytes(), type=Measurements).models
    assert {"google/siglip2-base-patch16-256", "google/siglip2-base-patch32-256"} <= set(models)


@pytest.mark.slow
def test_a_model_is_measured():
    """Its files, the memory of its server, and rows per second of both towers, in a process of its own."""
    found = shapes.figures(EMOJI, [shapes.rates(EMOJI, PHOTOS, 0.2)], PHOTOS)
    assert set(found) == {"files_mb", "memory_mb", "images_per_s", "texts_per_s"}
    assert all(value > 0 for value in found.values())
