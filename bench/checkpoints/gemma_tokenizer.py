"""A tokenizer in Gemma's format, trained on the spot."""

from __future__ import annotations

import random

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from siglip_edge.bench.checkpoints.words import made_up_lines

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]  # Gemma's ids 0 to 3


def train_tokenizer(vocabulary: int, seed: int) -> tokenizers.Tokenizer:
    """-> BPE with byte fallback in Gemma's format, trained on Python's sources and made-up words of nine scripts."""
    model = models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # training on single words is fast
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(made_up_lines(vocabulary, random.Random(seed)), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        " ", "merged_with_previous"
    )  # as in Gemma: without effect, because Replace leaves no space
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
