"""Chinese-CLIP: right to rounding in FP32 against transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, ChineseCLIPModel

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families import family_of
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Squash, Tower
from siglip_edge.runtime.images.pixels import to_rgb
from tests.exporter.families.agreement import (
    TEXTS,
    bits_change_with_the_batch,
    changed,
    cosines,
    hard_images,
    served,
)

LENGTH = 52


@pytest.fixture(scope="module")
def checkpoint(checkpoint_of) -> Path:
    return checkpoint_of("chinese_clip")


@pytest.fixture(scope="module")
def exported(exported_of) -> Path:
    return exported_of("chinese_clip")


@pytest.fixture(scope="module")
def reference(checkpoint):
    return ChineseCLIPModel.from_pretrained(checkpoint).eval()


def outputs(reference, checkpoint: Path, texts: list[str], images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """transformers' embeddings, through the model's own `forward`."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    processor = AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
    pixels = processor([to_rgb(image) for image in images], return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        made = reference(**batch, pixel_values=pixels["pixel_values"])
    return made.text_embeds.numpy(), made.image_embeds.numpy()


def test_fp32_equals_transformers(exported, reference, checkpoint, photographs):
    """Hard texts of every bucket, hard pictures and a camera's: cosine at least 0.99999."""
    images = [*hard_images(), *map(Image.open, photographs)]
    model = served(exported, Precision.FP32)
    texts_wanted, images_wanted = outputs(reference, checkpoint, TEXTS, images)
    assert cosines(model.embed_texts(TEXTS), texts_wanted).min() >= 0.99999
    assert cosines(model.embed_images(images), images_wanted).min() >= 0.99999


def test_token_ids_are_the_tokenizers(exported, checkpoint):
    """Lower case, a token per Han character, and texts that spell out special tokens."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), served(exported, Precision.FP32)
    for text in TEXTS:
        prepared = model.prepare_text(text)
        wanted = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        assert prepared.row.arrays["token_ids"][: prepared.tokens].tolist() == wanted, text


@pytest.mark.parametrize(
    ("precision", "floor"), [(Precision.FP16, 0.9999), (Precision.INT8, 0.99), (Precision.INT4, 0.98)]
)
def test_lower_precisions_agree_with_fp32(exported, precision, floor):
    """On inputs that no range was taken from."""
    exact, rounded = served(exported, Precision.FP32), served(exported, precision)
    assert cosines(exact.embed_images(hard_images()), rounded.embed_images(hard_images())).mean() >= floor
    assert cosines(exact.embed_texts(TEXTS), rounded.embed_texts(TEXTS)).mean() >= floor


@pytest.mark.parametrize("precision", list(Precision))
def test_bits_do_not_depend_on_the_batch(exported, precision):
    assert not bits_change_with_the_batch(served(exported, precision), hard_images(), TEXTS)


def test_the_manifest_says_what_chinese_clip_is(exported):
    manifest = Manifest.load(exported)
    assert manifest.vision.geometry == Squash(size=32, patch_size=16)
    assert (manifest.text.length, manifest.zero_shot_template) == (LENGTH, "{}的照片")
    assert not manifest.text.pools_first_end


def test_relative_positions_are_refused(checkpoint, tmp_path):
    """A BERT of another kind is not nearly the same."""

    def relative(config):
        config["text_config"]["position_embedding_type"] = "relative_key"
        return config

    source = changed(checkpoint, tmp_path / "relative", "config.json", relative)
    family = family_of(str(source))
    opened = family.open(str(source))
    with pytest.raises(ExportError, match="position_embedding_type 'relative_key' is not exported"):
        family.trace(opened, Tower.TEXT, tmp_path / "text.onnx")
