"""Write tokenizers in the form and of the size of each family's, with made-up pieces, to measure without a download.

    python -m siglip_edge.bench.tokenizer_forms FOLDER [--only xlmr]

Each gets a folder with tokenizer.json and tokenizer.bin. Then: python -m siglip_edge.bench.tokenizer FOLDER/*
"""

from __future__ import annotations

import argparse
import io
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from siglip_edge.bench.checkpoints.words import SCRIPTS
from siglip_edge.exporter.tokenizers.packing import write_packed_tokenizer

CALIBRATION_TEXTS = Path(__file__).parents[1] / "exporter/calibration_texts.txt"
SPACE = "▁"
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Form:
    """How to make the tokenizer of one family, and the number of pieces that the family's real one has."""

    make: Callable[[int], Tokenizer]
    size: int


def _words(rng: random.Random) -> Iterator[str]:
    """Made-up words: three syllables of one of nine scripts, the first scripts more often."""
    while True:
        first, letters = SCRIPTS[min(int(rng.expovariate(0.5)), len(SCRIPTS) - 1)]
        yield "".join(chr(first + rng.randrange(letters)) for _ in range(rng.choice((2, 4, 6))))


def _rng() -> random.Random:
    return random.Random(0)


def _pieces(count: int, start: str = "", inside: str = "") -> list[str]:
    """Letters, then words; `start` begins words, `inside` begins what continues them."""
    rng = _rng()
    letters = (chr(code) for first, number in SCRIPTS for code in range(first, first + number))
    signs = (chr(code) for code in range(0x21, 0x7F))
    single = chain(signs, letters) if count > 20_000 else chain(signs, "аб的é")
    alphabet = chain.from_iterable((start + letter, inside + letter) for letter in single)
    words = (rng.choice((start, inside)) + word[: rng.randrange(2, 7)] for word in _words(rng))
    pieces: dict[str, None] = dict.fromkeys(start)
    for piece in chain(alphabet, words):
        pieces[piece] = None
        if len(pieces) >= count:
            return list(pieces)
    raise AssertionError  # words do not end


def _merges(count: int, vocabulary: dict[str, int], spell: Callable[[str], list[str]]) -> list[tuple[str, str]]:
    """Merges that build words from their beginnings; `vocabulary` grows to `count` pieces."""
    merges: dict[tuple[str, str], None] = {}
    for word in _words(_rng()):
        begun, *symbols = spell(word)
        for symbol in symbols:
            merges.setdefault((begun, symbol))
            begun += symbol
            vocabulary.setdefault(begun, len(vocabulary))
        if len(vocabulary) >= count:
            return list(merges)
    raise AssertionError  # words do not end


def _around(tokenizer: Tokenizer, template: str) -> Tokenizer:
    special = [(name, tokenizer.token_to_id(name)) for name in template.split() if name != "$A"]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def word_pieces(size: int) -> Tokenizer:
    """BERT, MiniLM, MPNet, Chinese-CLIP."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = special + _pieces(size - len(special), inside="##")
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    return _around(tokenizer, "[CLS] $A [SEP]")


def unigram(size: int, *, words: bool = True, mask: bool = True, byte_fallback: bool = False) -> Tokenizer:
    """XLM-R, bge-m3, SigLIP, XLM-V. Without `words`, a text is one word."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []
    pieces = _pieces(size - len(special) - len(bytes_) - mask, start=SPACE)
    scores = [(piece, -math.log(rank + 2)) for rank, piece in enumerate(pieces)]
    named = [(piece, 0.0) for piece in (*special, *bytes_)]
    last = [("<mask>", 0.0)] if mask else []
    tokenizer = Tokenizer(models.Unigram([*named, *scores, *last], unk_id=3, byte_fallback=byte_fallback))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(_sentencepiece_rules()),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), SPACE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=words)
    tokenizer.add_special_tokens([*special, *([AddedToken("<mask>", lstrip=True)] if mask else [])])
    return _around(tokenizer, "<s> $A </s>" if mask else "$A </s>")


def _sentencepiece_rules() -> bytes:
    """SentencePiece's own normalization (nmt_nfkc), which the library runs as `Precompiled`."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    written = io.BytesIO()
    lines = CALIBRATION_TEXTS.read_text(encoding="utf-8").splitlines()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, model_type="char", vocab_size=1000, minloglevel=2
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(written.getvalue())
    return bytes(model.normalizer_spec.precompiled_charsmap)


def _byte_level(size: int, ending: str = "") -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges over the characters that stand for bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = [*alphabet, *(byte + ending for byte in alphabet)] if ending else alphabet
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=not ending, use_regex=False)

    def spell(word: str) -> list[str]:
        characters = to_bytes.pre_tokenize_str(word)[0][0]
        return [*characters[:-1], characters[-1] + ending]

    return vocabulary, _merges(size, vocabulary, spell)


def clip(size: int) -> Tokenizer:
    special = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = _byte_level(size - len(special), ending="</w>")
    vocabulary |= {name: len(vocabulary) + place for place, name in enumerate(special)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=special[1], end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=True) for name in special])
    return _around(tokenizer, "<|startoftext|> $A <|endoftext|>")


def modern_bert(size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(*_byte_level(size)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens([AddedToken(" " * length, normalized=True) for length in range(24, 1, -1)])
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", AddedToken("[MASK]", lstrip=True)])
    return _around(tokenizer, "[CLS] $A [SEP]")


def qwen(size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(*_byte_level(size)))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return _around(tokenizer, "$A <|endoftext|>")


def gemma(size: int) -> Tokenizer:
    """EmbeddingGemma; SigLIP 2 has the same without <bos>."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    unused = [f"<unused{number}>" for number in range(min(6242, size // 8))]
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *unused, "\n\n", "\n", SPACE * 2]
    vocabulary = {name: index for index, name in enumerate(names)}
    for letter in _pieces(min(20_000, size - len(names)), start=SPACE):
        if len(letter) == 1:
            vocabulary.setdefault(letter, len(vocabulary))
    merges = _merges(size, vocabulary, lambda word: [SPACE, *filter(vocabulary.__contains__, word), "a"])
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in (*special, *unused)])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("\n\n", "\n", SPACE * 2)])
    return _around(tokenizer, "<bos> $A <eos>")


FORMS = {
    "bert": Form(word_pieces, 30_522),
    "chinese_clip": Form(word_pieces, 21_128),
    "clip": Form(clip, 49_408),
    "modern_bert": Form(modern_bert, 50_368),
    "qwen": Form(qwen, 151_669),
    "gemma": Form(gemma, 262_144),
    "siglip": Form(lambda size: unigram(size, mask=False), 32_000),
    "xlmr": Form(unigram, 250_002),
    "xlmv": Form(unigram, 901_629),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=FORMS)
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else FORMS:
        directory = arguments.folder / name
        directory.mkdir(parents=True, exist_ok=True)
        FORMS[name].make(FORMS[name].size).save(str(directory / "tokenizer.json"))
        write_packed_tokenizer(directory, directory / "tokenizer.json", lambda items, _: items)
        print(directory, flush=True)


if __name__ == "__main__":
    main()
