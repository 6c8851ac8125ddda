"""Train the demo's tokenizer: small, but laid out exactly as the Gemma tokenizer that SigLIP2 checkpoints ship.

BPE with byte fallback over text whose spaces became "▁"; no dummy prefix; <pad> 0, <eos> 1, <bos> 2, <unk> 3, then the
256 bytes, then characters, then merged pieces in the order they were learned. Lower-casing is the caller's, as there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from demo.model import BOS, EOS, PAD, TEXT_LENGTH, UNK

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
RARE = 5  # characters seen less often than this are spelled in bytes


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn pieces from lower-cased texts, then lay them out Gemma's way."""
    pieces = _learn_pieces(list(texts), size - len(SPECIAL) - len(BYTES))
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *BYTES, *pieces))}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=_merges(vocabulary, pieces), unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", special_tokens=[("<eos>", EOS)]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _learn_pieces(texts: list[str], size: int) -> list[str]:
    """Single characters first, then merges in the order learned. No piece crosses a space."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁"), "merged_with_next")
    counts: dict[str, int] = {}
    for character in "".join(texts):
        counts[character] = counts.get(character, 0) + 1
    common = [c for c in counts if counts[c] >= RARE]
    trainer = trainers.BpeTrainer(
        vocab_size=size, limit_alphabet=len(common), min_frequency=2, max_token_length=16, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    return sorted(learner.get_vocab(), key=learner.get_vocab().__getitem__)


def _merges(vocabulary: dict[str, int], pieces: list[str]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, best piece first: what SentencePiece's BPE does by scores."""
    merges: list[tuple[str, str]] = []
    for piece in pieces:
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in halves if left in vocabulary and right in vocabulary]
        merges += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return merges


def _special(content: str) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    }


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and the two settings files that make `AutoTokenizer` load it as a Gemma tokenizer."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    settings = {
        "add_bos_token": False,
        "add_eos_token": True,
        "added_tokens_decoder": {
            str(number): _special(content) for number, content in zip((PAD, EOS, BOS, UNK), SPECIAL, strict=True)
        },
        **names,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids"],  # no attention mask: SigLIP was trained without one
        "model_max_length": TEXT_LENGTH,
        "padding_side": "right",
        "processor_class": "SiglipProcessor",
        "tokenizer_class": "GemmaTokenizerFast",
    }
    _write(folder / "tokenizer_config.json", settings)
    _write(folder / "special_tokens_map.json", names)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
