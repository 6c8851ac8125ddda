"""Chinese-CLIP: files, shapes and tokenizer format of OFA-Sys/chinese-clip-vit-base-patch16, with random weights."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import BertTokenizerFast, ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel

from siglip_edge.bench.checkpoints.clip import Encoder

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_FIRST_HAN = 0x4E00


@dataclass(frozen=True)
class ChineseClipSize:
    image: int
    patch: int
    vision: Encoder
    text: Encoder
    vocabulary: int
    positions: int
    dimensions: int


CHINESE_CLIP_SIZES = {
    "tiny": ChineseClipSize(32, 16, Encoder(64, 2, 4), Encoder(48, 2, 4), 1_000, positions=128, dimensions=32),
    "mid": ChineseClipSize(96, 16, Encoder(256, 4, 4), Encoder(192, 4, 4), 8_000, positions=512, dimensions=128),
    "base": ChineseClipSize(224, 16, Encoder(768, 12, 12), Encoder(768, 12, 12), 21_128, positions=512, dimensions=512),
}


def write_chinese_clip(directory: Path, size: ChineseClipSize, seed: int = 0) -> None:
    """Write a directory that `transformers` loads."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary(directory, size.vocabulary).save_pretrained(directory)
    square = {"height": size.image, "width": size.image}
    ChineseCLIPImageProcessor(size=square, do_center_crop=False).save_pretrained(directory)
    text = size.text.config(vocab_size=size.vocabulary, max_position_embeddings=size.positions)
    vision = size.vision.config(image_size=size.image, patch_size=size.patch)
    torch.manual_seed(seed)
    config = ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=size.dimensions)
    model = ChineseCLIPModel(config)
    model.logit_scale.data.fill_(4.6052)
    model.save_pretrained(directory)


def vocabulary(directory: Path, size: int) -> BertTokenizerFast:
    """-> WordPiece with letters, digits and punctuation, alone and inside a word, and Han characters."""
    single = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [*_SPECIAL, *single, *(f"##{letter}" for letter in single)]
    pieces += [chr(_FIRST_HAN + number) for number in range(size - len(pieces))]
    path = directory / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return BertTokenizerFast(str(path), do_lower_case=True)
