"""A model of one tower: a text encoder whose rows have buckets and a mask, and a vision encoder."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import (
    Cosine,
    Manifest,
    Tower,
    Towers,
)
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.execution.plan import BatchLimit, Wishes
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import open_model
from tests.tiny_model import WIDTH, write_model
from tests.tiny_text_model import TABLE, WEIGHTS, write_text_encoder

ON_CPU = Wishes(device="cpu")
PICTURE = Image.linear_gradient("L")
TEXTS = ["a", "a longer text", "bc", "one more text", "two", "of all the longest", "x"]


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory) -> EmbeddingModel:
    """Opened as the server opens it, self-test included."""
    return open_model(write_text_encoder(tmp_path_factory.mktemp("model") / "text"), ON_CPU)


@pytest.fixture(scope="module")
def exact_encoder(tmp_path_factory) -> EmbeddingModel:
    """Of whole numbers, whose sums are exact in any order."""
    directory = tmp_path_factory.mktemp("model") / "exact"
    return open_model(write_text_encoder(directory, table=np.rint(4 * TABLE), weights=np.rint(4 * WEIGHTS)), ON_CPU)


@pytest.fixture(scope="module")
def vision_directory(tmp_path_factory) -> Path:
    """A model directory of a vision tower alone."""
    directory = write_model(tmp_path_factory.mktemp("model") / "vision")
    manifest = Manifest.load(directory)
    msgspec.structs.replace(manifest, towers=Towers(vision=manifest.vision), golden=None).save(directory)
    for name in ("text_int8.onnx", "vocabulary_int8.bin", "tokenizer.json", "golden.bin"):
        (directory / name).unlink()
    return directory


def test_a_text_encoder_embeds_texts(text_encoder):
    """The mean over the real tokens: padding has no part in it."""
    assert (text_encoder.towers, text_encoder.loaded()) == ((Tower.TEXT,), (Tower.TEXT,))
    rows = text_encoder.embed_texts(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = text_encoder.prepare_text(text).row.arrays
        kept = ids["token_ids"][ids["attention_mask"] == 1]
        vector = TABLE[kept].astype(np.float64).mean(axis=0) @ WEIGHTS
        assert np.allclose(row, vector / np.linalg.norm(vector), atol=1e-5)


def test_a_text_encoder_refuses_images(text_encoder):
    with pytest.raises(UnsupportedInput, match="no vision tower is served here: text only"):
        text_encoder.prepare_image(PICTURE)
    with pytest.raises(UnsupportedInput, match="no vision tower"):
        text_encoder.embed_images([PICTURE])


def test_a_text_encoder_scores_by_cosine_and_shortens_as_it_was_trained(text_encoder):
    manifest = text_encoder.manifest
    assert (manifest.scoring, manifest.text.prompts) == (Cosine(), {"query": "q: "})
    assert text_encoder.shorten(text_encoder.embed_texts(["a"]), 4).shape == (1, 4)


def test_a_vision_encoder_embeds_images_and_refuses_texts(vision_directory):
    """Its vectors are those of the model with both towers."""
    model = open_model(vision_directory, ON_CPU)
    whole = open_model(write_model(vision_directory.parent / "both"), ON_CPU)
    assert model.towers == (Tower.VISION,)
    assert np.array_equal(model.embed_images([PICTURE]), whole.embed_images([PICTURE]))
    for refused in (lambda: model.prepare_text("a"), lambda: model.prepare_token_ids([1])):
        with pytest.raises(UnsupportedInput, match="no text tower is served here: vision only"):
            refused()


def test_rows_of_two_lengths_have_two_shape_keys_and_two_costs(text_encoder):
    short, as_short, long = (text_encoder.prepare_text(text).row for text in ("a", "bc", "a longer text"))
    assert short.shape_key == as_short.shape_key != long.shape_key
    assert (short.cost, as_short.cost, long.cost) == (4, 4, 16)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["text_encoder", "exact_encoder"])
def test_a_rows_bits_are_the_same_alone_and_in_any_mix(request, name, seed):
    """Rows of two lengths in any order; where a batch would change them, the self-test has found one row per run."""
    model: EmbeddingModel = request.getfixturevalue(name)
    rows = [model.prepare_text(text).row for text in TEXTS]
    alone = [model.run(Tower.TEXT, [row])[0] for row in rows]
    order = np.random.default_rng(seed).integers(0, len(rows), 12)
    together = model.run(Tower.TEXT, [rows[position] for position in order])
    assert np.array_equal(together, [alone[position] for position in order])


def test_short_rows_share_runs_where_their_bits_allow_it(exact_encoder):
    """As planned for INT8."""
    assert exact_encoder.plan.rows(Tower.TEXT) == 8


def test_the_self_test_shares_runs_of_several_lengths(exact_encoder, monkeypatch):
    """The shortest, a middle and the longest of which two rows may share a run; the rows of a length are not alike."""
    seen: dict[int, int] = {}
    run = exact_encoder.run

    def recorded(tower, rows, **crowded):
        length = rows[0].cost
        seen[length] = max(seen.get(length, 0), len(rows))
        masks = {row.arrays["attention_mask"].sum() for row in rows}
        assert len(rows) < 3 or len(masks) > 1
        return run(tower, rows, **crowded)

    monkeypatch.setattr(exact_encoder, "run", recorded)
    limits = {Tower.TEXT: BatchLimit(rows=4, cost=40)}
    monkeypatch.setattr(exact_encoder, "plan", replace(exact_encoder.plan, batch_limits=limits))
    selftest.check_bits(exact_encoder)
    assert seen == {4: 4, 8: 4, 16: 2}


def test_a_run_holds_one_length_within_the_budget(text_encoder, monkeypatch):
    """By cost: as many short rows share a run as have the tokens of a long one."""
    shapes: list[tuple[int, ...]] = []
    run = GraphSession.run

    def recorded(self, batch):
        shapes.append(batch["attention_mask"].shape)
        assert batch["token_embeddings"].shape == (*shapes[-1], WIDTH)
        return run(self, batch)

    monkeypatch.setattr(GraphSession, "run", recorded)
    limited = replace(text_encoder.plan, batch_limits={Tower.TEXT: BatchLimit(cost=16)})
    monkeypatch.setattr(text_encoder, "plan", limited)
    text_encoder.embed_texts(["a"] * 5 + ["a longer text"] * 2)
    assert shapes == [(4, 4), (1, 4), (1, 16), (1, 16)]


def test_a_vocabulary_inside_the_graph_gives_the_same_vectors(text_encoder, tmp_path):
    """Its input is `token_ids`; no table lies beside it."""
    inside = open_model(write_text_encoder(tmp_path / "inside", vocabulary_inside=True), ON_CPU)
    assert np.array_equal(inside.embed_texts(TEXTS), text_encoder.embed_texts(TEXTS))


def test_token_ids_of_the_caller_are_the_texts_own(text_encoder):
    """An id that the vocabulary does not have is refused."""
    ids = text_encoder.prepare_text("a").row.arrays["token_ids"][:2].tolist()
    row = text_encoder.prepare_token_ids(ids).row
    assert np.array_equal(text_encoder.run(Tower.TEXT, [row]), text_encoder.embed_texts(["a"]))
    for wrong in (-1, len(TABLE)):
        with pytest.raises(UnsupportedInput, match="from 0 to 257"):
            text_encoder.prepare_token_ids([wrong])
