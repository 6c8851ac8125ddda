"""Tokenizers of both families, rewritten for serving: the same ids as transformers', on hostile text too."""

import random
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer
from transformers import SiglipTokenizer

from siglip_edge.exporter.export import DEFAULT_TEXTS
from siglip_edge.exporter.families.siglip.checkpoint import _unigram_json

LINES = DEFAULT_TEXTS.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def siglip_tokenizer(tmp_path_factory) -> SiglipTokenizer:
    """A SentencePiece unigram model as SigLIP ships one: lower-cased text, EOS and padding share id 1."""
    directory: Path = tmp_path_factory.mktemp("spiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line.lower() for line in LINES] * 3),
        model_prefix=str(directory / "spiece"),
        vocab_size=500,
        character_coverage=0.98,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return SiglipTokenizer(str(directory / "spiece.model"))


def hostile(count: int) -> list[str]:
    rng = random.Random(0)
    letters = "aB .,!?'\"()-_\t\n  éß日本🎉\u200d\u00a0▁<>/s"
    return ["".join(rng.choice(letters) for _ in range(rng.randrange(24))) for _ in range(count)]


def test_siglips_slow_tokenizer_is_rewritten_exactly(siglip_tokenizer):
    """Canonicalised text gives transformers' ids, EOS included."""
    ours = Tokenizer.from_str(_unigram_json(siglip_tokenizer))
    from siglip_edge.runtime.text.token_ids import canonicalize
    from tests.runtime.text.test_token_ids import TEXT

    spec = type(TEXT)(**{field: getattr(TEXT, field) for field in TEXT.__struct_fields__} | {"strip_punctuation": True})
    differing = [
        text
        for text in [*LINES, *hostile(500)]
        if ours.encode(canonicalize(text, spec)).ids != siglip_tokenizer(text)["input_ids"]
    ]
    assert differing == []
