"""CLIP and MetaCLIP 2: right to rounding in FP32 against transformers, and refused in words where they cannot be."""

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.export import Order, export
from siglip_edge.exporter.families import family_of
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, ShortestSideCrop, Softmax, Squash
from siglip_edge.runtime.images.pixels import to_rgb
from tests.exporter.families.agreement import TEXTS, bits_change_with_the_batch, changed, cosines, hard_images, served

FAMILIES = {"clip": "CLIPModel", "metaclip_2": "MetaClip2Model"}
LENGTH = 40


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkpoint(family, checkpoint_of) -> Path:
    return checkpoint_of(family)


@pytest.fixture(scope="module")
def exported(family, exported_of) -> Path:
    return exported_of(family)


@pytest.fixture(scope="module")
def reference(family, checkpoint):
    return getattr(transformers, FAMILIES[family]).from_pretrained(checkpoint).eval()


def reference_texts(reference, checkpoint: Path, texts: list[str]) -> np.ndarray:
    """As transformers' users write it: padded to the longest text, truncated to the tower's length."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        return reference.get_text_features(**batch).numpy()


def reference_images(reference, checkpoint: Path, images: list[Image.Image]) -> np.ndarray:
    processor = AutoImageProcessor.from_pretrained(checkpoint, use_fast=False)
    pixels = processor([to_rgb(image) for image in images], return_tensors="pt", input_data_format="channels_last")
    with torch.no_grad():
        return reference.get_image_features(pixel_values=pixels["pixel_values"]).numpy()


def test_token_ids_are_the_tokenizers_up_to_the_first_end(exported, checkpoint):
    """Long, empty, emoji, Chinese, and texts that spell out the tokenizer's own begin and end."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), served(exported, Precision.FP32)
    for text in TEXTS:
        theirs = tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        seen = theirs[: theirs.index(tokenizer.eos_token_id) + 1]
        prepared = model.prepare_text(text)
        assert prepared.row.arrays["token_ids"][: prepared.tokens].tolist() == seen, text
        assert prepared.truncated == (len(tokenizer(text)["input_ids"]) > len(seen)), text


def test_the_fp32_text_tower_equals_transformers(exported, reference, checkpoint):
    """Hard texts of every bucket: cosine at least 0.99999."""
    ours = served(exported, Precision.FP32).embed_texts(TEXTS)
    assert cosines(ours, reference_texts(reference, checkpoint, TEXTS)).min() >= 0.99999


def test_the_fp32_vision_tower_equals_transformers(exported, reference, checkpoint, photographs):
    """Hard pictures and a camera's: cosine at least 0.99999."""
    images = [*hard_images(), *map(Image.open, photographs)]
    ours = served(exported, Precision.FP32).embed_images(images)
    assert cosines(ours, reference_images(reference, checkpoint, images)).min() >= 0.99999


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
    """Alone and in company, with neighbours of the same bucket and of others."""
    assert not bits_change_with_the_batch(served(exported, precision), hard_images(), TEXTS)


def test_the_manifest_says_what_clip_is(exported, family):
    manifest = Manifest.load(exported)
    assert manifest.family == family
    assert manifest.vision.geometry == ShortestSideCrop(shortest_side=32, size=32, patch_size=16)
    assert isinstance(manifest.scoring, Softmax)
    assert manifest.scoring.scale == pytest.approx(100, rel=1e-3)
    assert manifest.zero_shot_template == "a photo of a {}."
    assert {"text:pools_first_end", "padding:buckets", "input:attention_mask"} <= set(manifest.rules)


def test_the_users_template_wins(checkpoint_of, pictures, tmp_path):
    order = Order(
        source=str(checkpoint_of("clip")),
        output=tmp_path,
        precisions=[Precision.FP32],
        calibration_images=pictures,
        report=False,
    )
    directory = export(dataclasses.replace(order, zero_shot_template="{} it is"))
    assert Manifest.load(directory).zero_shot_template == "{} it is"


def legacy(config):
    config["text_config"]["eos_token_id"] = 2
    return config


def test_the_older_rule_of_pooling_is_the_same_for_a_vocabulary_that_ends_with_the_end_token(
    checkpoint_of, exported_of, pictures, tmp_path
):
    """`eos_token_id` 2 stands for the highest id: same rows, same space."""
    source = changed(checkpoint_of("clip"), tmp_path / "older", "config.json", legacy)
    order = Order(source=str(source), output=tmp_path / "out", precisions=[Precision.FP32], calibration_images=pictures)
    directory = export(dataclasses.replace(order, report=False))
    older, newer = served(directory, Precision.FP32), served(exported_of("clip"), Precision.FP32)
    assert older.manifest.space_id == newer.manifest.space_id
    assert np.array_equal(older.embed_texts(TEXTS), newer.embed_texts(TEXTS))


def test_the_older_rule_with_tokens_beyond_the_end_is_refused(checkpoint_of, tmp_path):
    source = changed(checkpoint_of("clip"), tmp_path / "older", "config.json", legacy)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(source)
    with pytest.raises(ExportError, match=r"pools the highest token id .* ids up to 1000 beyond the end token 999"):
        family_of(str(source)).open(str(source))


def test_a_tokenizer_that_ends_otherwise_than_the_tower_pools_is_refused(checkpoint, tmp_path):
    def elsewhere(config):
        config["text_config"]["eos_token_id"] = 7
        return config

    source = changed(checkpoint, tmp_path / "elsewhere", "config.json", elsewhere)
    with pytest.raises(ExportError, match=r"ends texts with token \d+, its tower pools token 7"):
        family_of(str(source)).open(str(source))


def test_a_vocabulary_larger_than_the_table_is_refused(checkpoint_of, tmp_path):
    """A token without an embedding would be an error of every text that has it."""
    source = tmp_path / "larger"
    shutil.copytree(checkpoint_of("clip"), source)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(source)
    with pytest.raises(ExportError, match="its tokenizer has token 1000, its text tower 1000 token embeddings"):
        family_of(str(source)).open(str(source))


def test_a_processor_without_crop_squashes(checkpoint_of, tmp_path):
    """Height and width without a crop: the whole picture, as Chinese-CLIP and some CLIPs were trained."""
    size = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    source = changed(checkpoint_of("clip"), tmp_path / "square", "preprocessor_config.json", lambda one: one | size)
    opened = family_of(str(source)).open(str(source))
    assert opened.towers.vision.geometry == Squash(size=32, patch_size=16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": {"shortest_edge": 24}}, "resizes to {'shortest_edge': 24} and crops {'height': 32, 'width': 32}"),
        ({"do_center_crop": False}, "resizes to {'shortest_edge': 32} and crops nothing"),
        ({"crop_size": {"height": 32, "width": 16}}, "crops {'height': 32, 'width': 16}"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "'longest_edge': 64"),
        ({"size": {"shortest_edge": 64}, "crop_size": 48}, "makes 48 pixels, its vision tower takes 32"),
        ({"do_resize": False}, "does not resize"),
        ({"do_normalize": False}, "does not normalise"),
        ({"do_rescale": False}, "does not rescale"),
        ({"rescale_factor": 1 / 127.5}, "rescales by 0.00784"),
        ({"image_mean": [0.5], "image_std": [0.5]}, "does not normalise three channels"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "prepared by ConvNextImageProcessor, which is not known"),
    ],
)
def test_a_processor_that_the_runtime_cannot_follow_is_refused(checkpoint_of, tmp_path, change, words):
    """Never a crop or a scale that is nearly the checkpoint's."""
    source = changed(checkpoint_of("clip"), tmp_path / "other", "preprocessor_config.json", lambda one: one | change)
    with pytest.raises(ExportError) as raised:
        family_of(str(source)).open(str(source))
    assert words in str(raised.value)


def test_weights_that_are_missing_are_named(checkpoint_of, tmp_path):
    """transformers would fill them with random numbers."""
    from safetensors.torch import load_file, save_file

    source = tmp_path / "part"
    shutil.copytree(checkpoint_of("clip"), source)
    weights = load_file(source / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"1 of its weights are missing, for example text_projection\.weight"):
        family_of(str(source)).open(str(source))


def test_an_exact_gelu_is_served_as_such(checkpoint_of, pictures, tmp_path):
    """LAION's towers have `gelu`, OpenAI's `quick_gelu`; the FP32 gate compares with transformers."""

    def exact(config):
        for tower in ("text_config", "vision_config"):
            config[tower]["hidden_act"] = "gelu"
        return config

    source = changed(checkpoint_of("clip"), tmp_path / "laion", "config.json", exact)
    order = Order(source=str(source), output=tmp_path / "out", precisions=[Precision.INT8], calibration_images=pictures)
    manifest = Manifest.load(export(dataclasses.replace(order, report=False)))
    assert msgspec.structs.asdict(manifest.vision.artifacts[Precision.INT8].fidelity)["mean_cosine"] > 0.995
