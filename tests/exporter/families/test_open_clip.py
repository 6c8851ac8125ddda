"""OpenCLIP's own format: right to rounding against a model with OpenCLIP's names, and refused by name elsewhere."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, CLIPTokenizerFast

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.export import Order, export
from siglip_edge.exporter.families import family_of
from siglip_edge.exporter.families.open_clip.tokenizer import from_merges
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, ShortestSideCrop, Squash
from tests.exporter.families.agreement import TEXTS, bits_change_with_the_batch, cosines, hard_images, served
from tests.exporter.families.open_clip_form import OpenClipModel, OpenClipWithEncoder, save

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
CAUSAL = {"context_length": 40, "vocab_size": 1000, "width": 48, "heads": 4, "layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "bpe": {"embed_dim": 32, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": CAUSAL},
    "worldwide": {
        "embed_dim": 32,
        "vision_cfg": VISION,
        "text_cfg": {**CAUSAL, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2},
    },
    "encoder": {
        "embed_dim": 32,
        "vision_cfg": VISION,
        "text_cfg": {
            "hf_model_name": "xlm-roberta-base",
            "hf_tokenizer_name": "xlm-roberta-base",
            "hf_pooler_type": "mean_pooler",
            "context_length": 40,
        },
    },
}
TOKENIZER_OF = {"bpe": "clip", "worldwide": "metaclip_2", "encoder": "metaclip_2"}
SPELT = [re.sub(r"<\|(start|end)oftext\|>", r"<\1_OF_text>", text, flags=re.IGNORECASE) for text in TEXTS]
"""With OpenCLIP's begin and end tokens, in any case: its tokenizer looks for them in the lower-cased text."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def reference(kind):
    torch.manual_seed(0)
    model = OpenClipWithEncoder(KINDS[kind], 1000) if kind == "encoder" else OpenClipModel(KINDS[kind])
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(kind, reference, checkpoint_of, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("open_clip") / kind
    return save(reference, KINDS[kind], checkpoint_of(TOKENIZER_OF[kind]), directory)


@pytest.fixture(scope="module")
def exported(checkpoint, pictures, tmp_path_factory) -> Path:
    order = Order(
        source=str(checkpoint),
        output=tmp_path_factory.mktemp("exported"),
        precisions=[Precision.FP32, Precision.INT8],
        calibration_images=pictures,
        report=False,
    )
    return export(order)


@pytest.fixture
def bpe(checkpoint_of, tmp_path) -> Path:
    """A checkpoint with CLIP's kind of text tower, to be changed."""
    return save(OpenClipModel(KINDS["bpe"]), KINDS["bpe"], checkpoint_of("clip"), tmp_path / "bpe")


def reconfigured(directory: Path, change: Callable[[Any], Any]) -> str:
    path = directory / "open_clip_config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return str(directory)


def opened(source: str) -> Any:
    return family_of(source).open(source)


def ids_of(kind: str, checkpoint: Path, texts: list[str]) -> torch.Tensor:
    """OpenCLIP's tokens: its spelling of begin and end, cut to 40 with the end kept, padded."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    if kind == "bpe":
        texts = [text.lower().replace("<end_of_text>", "<|endoftext|>") for text in texts]
        texts = [text.replace("<start_of_text>", "<|startoftext|>") for text in texts]
    options = {"padding": "max_length", "truncation": True, "max_length": 40, "return_tensors": "pt"}
    return tokenizer(texts, **options).input_ids


def test_the_text_tower_equals_openclips(exported, reference, checkpoint, kind):
    """Hard texts: cosine at least 0.99999."""
    with torch.no_grad():
        wanted = reference.encode_text(ids_of(kind, checkpoint, SPELT)).numpy()
    assert cosines(served(exported, Precision.FP32).embed_texts(SPELT), wanted).min() >= 0.99999


def as_openclip_prepares(image: Image.Image, side: int = 32) -> torch.Tensor:
    """torchvision's Resize and CenterCrop, and OpenAI's normalisation."""
    image = image.convert("RGB")
    short = min(image.size)
    width, height = (int(side * one / short) for one in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, upper = round((width - side) / 2), round((height - side) / 2)
    pixels = np.asarray(resized.crop((left, upper, left + side, upper + side)), np.float32) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return torch.from_numpy((pixels - np.array(mean, np.float32)) / np.array(std, np.float32)).permute(2, 0, 1)


def test_the_vision_tower_equals_openclips(exported, reference):
    """Every offset of the crop, whole and half pixels: cosine at least 0.99999."""
    images = [image.convert("RGB") for image in hard_images()] + [Image.new("RGB", (40, 40))]
    images += [images[0].resize((32 + extra, 32)) for extra in range(9)]
    with torch.no_grad():
        wanted = reference.visual(torch.stack([as_openclip_prepares(image) for image in images])).numpy()
    assert cosines(served(exported, Precision.FP32).embed_images(images), wanted).min() >= 0.99999


def test_bits_do_not_depend_on_the_batch(exported):
    assert not bits_change_with_the_batch(served(exported, Precision.INT8), hard_images(), TEXTS)


def test_the_manifest_says_what_it_is(exported, kind):
    manifest = Manifest.load(exported)
    crop = ShortestSideCrop(shortest_side=32, size=32, patch_size=16, rounds_half_to_even=True)
    assert (manifest.family, manifest.vision.geometry) == ("open_clip", crop)
    assert manifest.text.pools_first_end == (kind != "encoder")
    assert "geometry:rounds_half_to_even" in manifest.rules


def test_a_padding_token_in_a_text_is_dropped(exported, kind):
    """OpenCLIP's encoders hide it from the other tokens, give it no position and leave it out of the mean."""
    model = served(exported, Precision.FP32)
    if kind == "encoder":
        assert np.array_equal(model.embed_texts(["a cat<pad> sat"]), model.embed_texts(["a cat  sat"]))


def test_a_text_tower_without_an_image_tower_is_refused_with_the_remedy(tmp_path):
    """M-CLIP's text towers go with OpenAI's image towers, in another repository."""
    (tmp_path / "config.json").write_text('{"model_type": "M-CLIP"}')
    with pytest.raises(ExportError, match="its image tower is another repository's; laion/CLIP-ViT-B-32-xlm-roberta"):
        family_of(str(tmp_path))


def test_a_repository_in_both_forms_is_taken_in_transformers(bpe, checkpoint_of):
    """LAION's repositories hold both."""
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copy(checkpoint_of("clip") / name, bpe)
    assert family_of(str(bpe)).name == "clip"


def test_a_configuration_of_another_library_beside_it_is_passed_over(bpe):
    """timm's config.json has no model type."""
    (bpe / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')
    assert family_of(str(bpe)).name == "open_clip"


def test_weights_in_a_pickle_are_read(bpe):
    """Older repositories: with wrapped names and constants beside the weights."""
    weights = load_file(bpe / "open_clip_model.safetensors")
    expected = opened(str(bpe)).weights_sha256()
    (bpe / "open_clip_model.safetensors").unlink()
    wrapped = {f"module.{name}": tensor for name, tensor in weights.items()} | {"module.attn_mask": torch.zeros(2, 2)}
    torch.save({"state_dict": wrapped, "epoch": 3}, bpe / "open_clip_pytorch_model.bin")
    assert opened(str(bpe)).weights_sha256() == expected


def test_squash_is_followed(bpe):
    source = reconfigured(bpe, lambda content: content["preprocess_cfg"].update(resize_mode="squash", mean=[0.5] * 3))
    vision = opened(source).towers.vision
    assert (vision.geometry, vision.mean) == (Squash(size=32, patch_size=16), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("vision_cfg", {"layers": [3, 4, 6, 3]}, "its vision tower is a ModifiedResNet"),
        ("vision_cfg", {"timm_model_name": "convnext_base"}, "its vision tower is timm's convnext_base"),
        ("vision_cfg", {"timm_model_name": "fastvit_mci2"}, "timm's fastvit_mci2"),
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_siglip_224"}, "exported from Google's repositories"),
        ("vision_cfg", {"attentional_pool": True}, "vision_cfg has attentional_pool = True"),
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg has no_ln_pre = True"),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg has pool_type = 'avg'"),
        ("vision_cfg", {"ls_init_value": 1e-5}, "vision_cfg has ls_init_value"),
        ("vision_cfg", {"qk_norm": True}, "vision_cfg has qk_norm"),
        ("vision_cfg", {"image_size": [32, 64]}, "only squares"),
        ("vision_cfg", {"act_kwargs": {"approximate": "other"}}, "only GELU's tanh form"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "its text tower is roberta-base"),
        ("text_cfg", {"hf_model_name": "xlm-roberta-base", "hf_pooler_type": "cls_pooler"}, "'cls_pooler'"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg has no_causal_mask"),
        ("text_cfg", {"embed_cls": True}, "text_cfg has embed_cls"),
        ("text_cfg", {"pool_type": "last"}, "pools by 'last'"),
        ("text_cfg", {"proj_bias": True}, "text_cfg has proj_bias"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}, "canonicalize"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "whitespace"}}, "'clean': 'whitespace'"),
        ("text_cfg", {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "lower"}}, "'clean': 'lower'"),
        ("text_cfg", {"tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token"),
        ("multimodal_cfg", {"width": 8}, "model_cfg has multimodal_cfg"),
    ],
)
def test_what_does_not_map_is_refused_by_name(bpe, part, change, words):
    """Before any weight is read."""
    source = reconfigured(bpe, lambda content: content["model_cfg"].setdefault(part, {}).update(change))
    with pytest.raises(ExportError) as raised:
        opened(source)
    assert words in str(raised.value)


def test_padding_to_a_square_is_refused(bpe):
    source = reconfigured(bpe, lambda content: content["preprocess_cfg"].update(resize_mode="longest"))
    with pytest.raises(ExportError, match="resize_mode 'longest' pads pictures"):
        opened(source)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("ln_final.bias"), r"text_model\.final_layer_norm\.bias is missing"),
        (lambda weights: weights.update(logit_bias=torch.zeros(())), "logit_bias has no place"),
        (lambda weights: weights.update({"visual.proj": torch.zeros(64, 16)}), "the weights do not fit"),
    ],
)
def test_weights_that_do_not_fit_are_named(bpe, change, words):
    weights = load_file(bpe / "open_clip_model.safetensors")
    change(weights)
    save_file(weights, bpe / "open_clip_model.safetensors")
    with pytest.raises(ExportError, match=words):
        opened(str(bpe))


def test_without_a_tokenizer_the_export_says_which_files_to_add(bpe, monkeypatch):
    monkeypatch.setattr("siglip_edge.exporter.families.open_clip.tokenizer._shipped_merges", lambda: None)
    for path in [*bpe.glob("*token*"), *bpe.glob("vocab*"), *bpe.glob("merges*")]:
        path.unlink()
    with pytest.raises(ExportError, match=r"bpe_simple_vocab_16e6\.txt\.gz into the directory, or install open_clip"):
        opened(str(bpe))


def test_openclips_own_table_of_merges_makes_clips_tokenizer(tmp_path):
    """Ids: 256 bytes, 256 bytes that end a word, merges, begin, end."""
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    path.write_bytes(gzip.compress("\n".join(['"version"', *merges, ""]).encode()))
    tokenizer = from_merges(path)
    assert isinstance(tokenizer, CLIPTokenizerFast)
    assert tokenizer("CAT dog  cat")["input_ids"] == [516, 513, 515, 513, 517]
