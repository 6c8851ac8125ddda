"""CLIP: the files, shapes and tokenizer format of openai/clip-vit-base-patch32, with random weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Encoder:
    width: int
    layers: int
    heads: int

    def config(self, **more: int | str) -> dict[str, int | str]:
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            **more,
        }


@dataclass(frozen=True)
class ClipSize:
    image: int
    patch: int
    vision: Encoder
    text: Encoder
    vocabulary: int
    length: int
    dimensions: int


CLIP_SIZES = {
    "tiny": ClipSize(32, 16, Encoder(64, 2, 4), Encoder(48, 2, 4), vocabulary=1_000, length=40, dimensions=32),
    "mid": ClipSize(96, 16, Encoder(256, 4, 4), Encoder(192, 4, 4), vocabulary=8_000, length=77, dimensions=128),
    "base": ClipSize(224, 32, Encoder(768, 12, 12), Encoder(512, 12, 8), vocabulary=49_408, length=77, dimensions=512),
}


def write_clip(
    directory: Path, size: ClipSize, lines: Iterable[str], seed: int = 0, activation: str = "quick_gelu"
) -> None:
    """Write a directory that `transformers` loads. `lines`: text that the tokenizer is trained on."""
    directory.mkdir(parents=True, exist_ok=True)
    train_tokenizer(directory, size.vocabulary, lines).save_pretrained(directory)
    image_processor(size).save_pretrained(directory)
    text = size.text.config(
        vocab_size=size.vocabulary,
        max_position_embeddings=size.length,
        hidden_act=activation,
        bos_token_id=size.vocabulary - 2,
        eos_token_id=size.vocabulary - 1,
        pad_token_id=size.vocabulary - 1,
    )
    vision = size.vision.config(image_size=size.image, patch_size=size.patch, hidden_act=activation)
    torch.manual_seed(seed)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.dimensions)
    model = CLIPModel(config)
    model.logit_scale.data.fill_(4.6052)  # exp(4.6052) = 100, where CLIP's training ends
    model.save_pretrained(directory)


def image_processor(size: ClipSize) -> CLIPImageProcessor:
    square = {"height": size.image, "width": size.image}
    return CLIPImageProcessor(size={"shortest_edge": size.image}, crop_size=square)


def train_tokenizer(directory: Path, vocabulary: int, lines: Iterable[str]) -> CLIPTokenizerFast:
    """-> byte-level BPE whose words end with `</w>`: every byte alone and as an end, merges, begin and end."""
    trained = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges_wanted = vocabulary - 2 * len(alphabet) - 2
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(lines, trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]][:merges_wanted]
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(merge) for merge in merges)]
    pieces += [f"unused-{number}" for number in range(merges_wanted - len(merges))]
    ids = {piece: index for index, piece in enumerate([*dict.fromkeys(pieces), BEGIN, END])}
    files = directory / "vocab.json", directory / "merges.txt"
    files[0].write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    files[1].write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges), encoding="utf-8")
    return CLIPTokenizerFast(*map(str, files))
