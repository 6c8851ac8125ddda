"""Each packed model gives the library's ids, with tiny vocabularies that have many ties and many unknown characters."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from siglip_edge.exporter.tokenizers.packing import pack
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.splitting import longest_of
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = st.text(alphabet="aabbc▁ é☃", max_size=40)
SCORES = st.sampled_from([0.0, -0.5, -1.0, -1.5, -2.0, -0.1, -0.3, -30.0])


def packed_form(tokenizer: Tokenizer) -> PackedTokenizer:
    return PackedTokenizer(pack(json.loads(tokenizer.to_str()), [], []))


def check(tokenizer: Tokenizer, texts: list[str]) -> None:
    packed = packed_form(tokenizer)
    for text in texts:
        assert packed(text) == tokenizer.encode(text).ids


@settings(deadline=None, max_examples=300)
@given(
    pieces=st.dictionaries(st.text(alphabet="abé▁☃", min_size=1, max_size=5), SCORES, max_size=30),
    byte_fallback=st.booleans(),
    words=st.booleans(),
    texts=st.lists(TEXTS, min_size=1, max_size=8),
)
def test_unigram(pieces, byte_fallback, words, texts):
    """Equal totals are common: repeated letters, and scores from a short list."""
    named = [(piece, 0.0) for piece in ["<unk>", *(BYTES if byte_fallback else [])]]
    tokenizer = Tokenizer(models.Unigram([*named, *pieces.items()], unk_id=0, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=words)
    check(tokenizer, [*texts, "<unk>☃", "☃<unk>☃", "☃é☃é"])


@settings(deadline=None, max_examples=300)
@given(
    pieces=st.lists(st.from_regex("(##)?[abé]{1,4}", fullmatch=True), max_size=30),
    longest=st.integers(1, 12),
    continuing=st.sampled_from(["##", "", "@"]),
    texts=st.lists(TEXTS, min_size=1, max_size=8),
)
def test_word_pieces(pieces, longest, continuing, texts):
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(["[UNK]", *pieces]))}
    model = models.WordPiece(
        vocabulary, unk_token="[UNK]", max_input_chars_per_word=longest, continuing_subword_prefix=continuing
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    check(tokenizer, texts)


def merges_of(rng: np.random.Generator, symbols: list[str], number: int) -> list[tuple[str, str]]:
    """Random merges of earlier symbols, so that pieces can be made in several ways."""
    merges: dict[tuple[str, str], None] = {}
    for _ in range(number):
        left, right = (symbols[rng.integers(len(symbols))] for _ in range(2))
        if not left.endswith("</w>"):
            merges.setdefault((left, right))
            symbols.append(left + right)
    return list(merges)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    ending=st.sampled_from(["", "</w>"]),
    texts=st.lists(st.text(alphabet="aabbc Ã©é☃", max_size=40), min_size=1, max_size=8),
)
def test_byte_pairs_over_bytes(seed, ending, texts):
    """With a suffix on the last character of every word, as CLIP's, and without."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = alphabet + [byte + ending for byte in alphabet if ending]
    few = [symbol for symbol in symbols if symbol[0] in "abcÃ©Ġ"]
    merges = merges_of(np.random.default_rng(seed), few, 40)
    pieces = dict.fromkeys([*symbols, *(left + right for left, right in merges)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **({"end_of_word_suffix": ending} if ending else {})))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    check(tokenizer, texts)


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 10**6), texts=st.lists(TEXTS, min_size=1, max_size=8))
def test_byte_pairs_over_characters(seed, texts):
    """Merges may join words: then, and only there, a word goes on after a space."""
    symbols = ["a", "b", "▁", "c"]
    merges = merges_of(np.random.default_rng(seed), symbols, 12)
    pieces = dict.fromkeys(["<unk>", *BYTES, *"abc▁", *(left + right for left, right in merges)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    check(tokenizer, texts)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    unknown=st.booleans(),
    joins=st.booleans(),
    ending=st.sampled_from(["", "</w>"]),
    texts=st.lists(TEXTS, min_size=1, max_size=8),
)
def test_byte_pairs_without_a_spelling_of_the_unknown(seed, unknown, joins, ending, texts):
    """A character without a piece is unknown, alone or with its neighbours, or is dropped."""
    letters = ["a", "b", "▁", "c"]
    symbols = letters + [letter + ending for letter in letters if ending]
    merges = merges_of(np.random.default_rng(seed), list(symbols), 12)
    pieces = dict.fromkeys(["<unk>", *symbols, *(left + right for left, right in merges)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    wishes = {"unk_token": "<unk>"} if unknown else {}
    wishes |= {"end_of_word_suffix": ending} if ending else {}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=joins, **wishes))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    check(tokenizer, [*texts, "☃é ☃é", "a☃b"])


def test_a_merge_with_a_bytes_piece_keeps_a_text_whole():
    """The piece `<0x0A>` ends with another character than its text, so words cannot be told from its name."""
    merges = [("<0x0A>", "▁"), ("a", "b")]
    pieces = ["<unk>", *BYTES, *"ab▁", "<0x0A>▁", "ab"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    packed = packed_form(tokenizer)
    assert packed("ab\n ab") == tokenizer.encode("ab\n ab").ids
    assert vocabulary["<0x0A>▁"] in packed("ab\n ab")


def test_unigram_reads_a_text_without_spaces_only_as_far_as_its_row():
    """The ids before the limit are those of the whole text, wherever no piece covers the limit."""
    named = [("<unk>", 0.0), ("▁", -3.0), ("a", -1.0), ("b", -1.0), ("ab", -1.5), ("☃é", -40.0)]
    tokenizer = Tokenizer(models.Unigram(named, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    packed = PackedTokenizer(pack(json.loads(tokenizer.to_str()), [], []), enough=20)
    for text in ("ab" * 2000, "a☃é☃éb" * 2000, "☃" * 50 + "ab" * 2000):
        ids = packed(text)
        assert 20 < len(ids) < 30
        assert ids == tokenizer.encode(text).ids[: len(ids)]


def test_of_two_pieces_with_one_text_the_last_counts():
    """As in the library, whose score is that of the last one too."""
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("aa", -5.0), ("aa", -1.0)], unk_id=0))
    assert packed_form(tokenizer)("aaa") == tokenizer.encode("aaa").ids
    assert 3 in packed_form(tokenizer)("aaa")


@settings(deadline=None, max_examples=300)
@given(
    added=st.lists(
        st.builds(
            AddedToken,
            st.sampled_from(["ab", "a b", "<m>", "<M>", "AB", " c ", "é", "▁", "b", "[UNK]"]),
            single_word=st.booleans(),
            lstrip=st.booleans(),
            rstrip=st.booleans(),
            normalized=st.booleans(),
            special=st.booleans(),
        ),
        max_size=6,
        unique_by=lambda token: token.content,
    ),
    texts=st.lists(st.text(alphabet="abcABC <m>é", max_size=30), min_size=1, max_size=8),
)
def test_added_tokens_of_any_kind(added, texts):
    """They take in spaces, stand between letters or not, and are found before or after the normalizer."""
    vocabulary = {piece: index for index, piece in enumerate(["[UNK]", *"abcé<m>", "##a", "##b", "##m"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens(added)
    check(tokenizer, [*texts, "a <m>  b<m> ab  a b AB éé"])


@settings(deadline=None)
@given(words=st.lists(st.text(alphabet="ab<.", min_size=1, max_size=6), max_size=8), text=st.text(alphabet="ab<."))
def test_the_pattern_of_added_tokens_finds_the_longest_first(words, text):
    """As Gemma's two newlines before one."""
    import re

    found = re.match(longest_of(words), text)
    longest = max((word for word in words if text.startswith(word)), key=len, default=None)
    assert (found and found[0]) == longest


@pytest.mark.parametrize("cut", [1, 9, 100])
def test_a_file_that_is_cut_is_refused(tmp_path, cut):
    """Not read as a shorter vocabulary."""
    from siglip_edge.runtime.errors import ArtifactCorrupt

    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *((chr(0x4E00 + n), -1.0) for n in range(50))], unk_id=0))
    path = tmp_path / "tokenizer.bin"
    with path.open("wb") as file:
        pack(json.loads(tokenizer.to_str()), [], []).write(file)
    PackedFile.load(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ArtifactCorrupt, match="run the export again"):
        PackedFile.load(path)
