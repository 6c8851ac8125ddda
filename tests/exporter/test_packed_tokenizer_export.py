"""The packed tokenizer: Hugging Face's ids exactly, or not written."""

import copy
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from siglip_edge.bench.checkpoints.gemma_tokenizer import train_tokenizer
from siglip_edge.exporter.export import export
from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.exporter.tokenizers.packing import pack, write_packed_tokenizer
from siglip_edge.exporter.tokenizers.probes import probe_texts
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, PackedTokenizerSpec, Precision, TextTower
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
from siglip_edge.runtime.text.token_ids import text_row
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer, load_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """A Gemma-format tokenizer with 1 346 merges, in both forms."""
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer = train_tokenizer(4000, seed=0)
    tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))
    write_packed_tokenizer(directory, directory / "tokenizer.json", lambda items, _: items)
    return directory


@pytest.fixture(scope="module")
def description(directory) -> dict:
    return json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def spec(directory) -> TextTower:
    return TextTower(
        length=16,
        pad_id=0,
        suffix_ids=(1,),
        lowercase=True,
        strip_punctuation=False,
        tokenizer=record_file(directory, directory / "tokenizer.json"),
        artifacts={},
        packed_tokenizer=PackedTokenizerSpec(file=record_file(directory, directory / "tokenizer.bin"), probes=1),
    )


@pytest.fixture(scope="module")
def tokenizers(directory) -> tuple[HuggingFaceTokenizer, PackedTokenizer]:
    packed = PackedTokenizer(PackedFile.load(directory / "tokenizer.bin"))
    return HuggingFaceTokenizer(directory / "tokenizer.json"), packed


def all_splits(description: dict) -> dict:
    """Merges as transformers derives them from a SentencePiece model: every way to cut a piece, short parts first."""
    changed = copy.deepcopy(description)
    vocabulary = changed["model"]["vocab"]
    merges = []
    for piece in vocabulary:
        parts = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        merges += sorted(part for part in parts if part[0] in vocabulary and part[1] in vocabulary)
    changed["model"]["merges"] = merges
    return changed


def across_words(description: dict) -> dict:
    """Some pieces that contain a letter and a space after it, and pieces made of those."""
    changed = copy.deepcopy(description)
    for left, right in (("e", "▁"), ("e▁", "a"), ("▁", "▁"), ("▁▁", "e▁")):
        changed["model"]["vocab"][left + right] = len(changed["model"]["vocab"])
        changed["model"]["merges"].insert(0, [left, right])
    return changed


def overlapping_added_tokens(description: dict) -> dict:
    """Added tokens that begin alike, contain one another, or hold spaces and newlines."""
    changed = copy.deepcopy(description)
    for content in ("\n", "\n\n", "\n\n\n", "▁▁", "a b", "a", "abc", "[multi]", "[multi", "é"):
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        index = len(changed["model"]["vocab"])
        changed["model"]["vocab"].setdefault(content, index)
        changed["added_tokens"].append({"id": changed["model"]["vocab"][content], "content": content, **flags})
    return changed


def tab_instead_of_its_byte(description: dict) -> dict:
    """As transformers repairs older Gemma vocabularies."""
    changed = copy.deepcopy(description)
    changed["model"]["vocab"]["\t"] = changed["model"]["vocab"].pop("<0x09>")
    changed["added_tokens"] = [token for token in changed["added_tokens"] if token["content"] != "<0x09>"]
    return changed


FORMS = [lambda same: same, all_splits, across_words, overlapping_added_tokens, tab_instead_of_its_byte]


@pytest.mark.parametrize("form", FORMS)
def test_ids_equal_hugging_faces(description, form, tmp_path):
    """Whatever the vocabulary's merges and added tokens look like, on every probe."""
    path = tmp_path / "tokenizer.json"
    Tokenizer.from_str(json.dumps(form(description))).save(str(path))
    assert write_packed_tokenizer(tmp_path, path, lambda items, _: items).probes >= 10_000
    assert (tmp_path / "tokenizer.bin").exists()


@settings(deadline=None, max_examples=500)
@given(text=st.text())
def test_ids_equal_hugging_faces_on_any_text(tokenizers, text):
    reference, packed = tokenizers
    assert packed(text) == reference(text)


def test_both_refuse_a_lone_surrogate(tokenizers):
    """Not a character, so it has no UTF-8 bytes: refused, not guessed."""
    for tokenize in tokenizers:
        with pytest.raises((UnicodeEncodeError, TypeError)):
            tokenize("a\ud800b")


def test_a_truncated_text_need_not_be_read_to_its_end(directory, tokenizers, description, spec):
    """The rows are those of the whole text's ids, though the served tokenizer stops early."""
    served, (_, whole) = load_tokenizer(directory, spec), tokenizers
    long = "some words that go on " * 100
    assert len(served(long)) < len(whole(long)) / 10
    for text in (long, *probe_texts(description, 500, seed=1)):
        ours, theirs = (text_row(text, each, spec) for each in (served, whole))
        assert np.array_equal(ours.row.arrays["token_ids"], theirs.row.arrays["token_ids"])
        assert (ours.tokens, ours.truncated) == (theirs.tokens, theirs.truncated)


def test_threads_share_one_tokenizer(description, tokenizers):
    reference, packed = tokenizers
    texts = list(probe_texts(description, 1000, seed=2))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(packed, texts)) == [reference(text) for text in texts]


def test_serving_a_packed_tokenizer_does_not_import_the_library(exported):
    """Its import alone costs as much as the packed form."""
    program = f"""
import sys
from pathlib import Path
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.text.tokenizer import load_tokenizer
directory = Path({str(exported)!r})
print(load_tokenizer(directory, Manifest.load(directory).text)("a"), "tokenizers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("] False\n")


def test_a_packed_file_that_is_not_one_is_refused(tmp_path):
    for content in (b"", b"short", b"\xff" * 100, (16).to_bytes(8, "little") + b'{"merges": 1}    '):
        (tmp_path / "tokenizer.bin").write_bytes(content)
        with pytest.raises(ArtifactCorrupt, match="run the export again"):
            PackedFile.load(tmp_path / "tokenizer.bin")


def changed(description: dict, *path: str, value: object) -> dict:
    copied = copy.deepcopy(description)
    *parents, last = path
    reduce(lambda node, key: node[key], parents, copied)[last] = value
    return copied


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("model", "type"), "WordLevel", "its model is WordLevel"),
        (("model", "ignore_merges"), True, "ignore_merges"),
        (("model", "dropout"), 0.1, "dropout"),
        (("model", "continuing_subword_prefix"), "##", "continuing_subword_prefix"),
        (("model", "end_of_word_suffix"), "</w>", "end_of_word_suffix"),
    ],
)
def test_what_cannot_be_packed_is_refused_by_name(description, path, value, reason):
    with pytest.raises(NotPackable, match=reason):
        pack(changed(description, *path, value=value), [], [1])


def test_a_vocabulary_without_a_piece_for_every_byte_is_refused(description):
    vocabulary = {piece: index for piece, index in description["model"]["vocab"].items() if piece != "<0xE4>"}
    with pytest.raises(NotPackable, match="no piece for 1 of the 256 bytes"):
        pack(changed(description, "model", "vocab", value=vocabulary), [], [1])


@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordPiece"])
def test_a_model_without_a_piece_for_what_is_unknown_is_refused(kind):
    """What the library then raises for a text, the packed form would have to guess."""
    model_of: dict[str, dict] = {
        "BPE": {"vocab": {"a": 0}, "merges": [], "byte_fallback": False, "unk_token": "<unk>"},
        "Unigram": {"vocab": [["a", 0.0]], "unk_id": None},
        "WordPiece": {"vocab": {"a": 0}, "unk_token": "[UNK]"},
    }
    parts: dict = {"normalizer": None, "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": []}
    with pytest.raises(NotPackable, match="no piece"):
        pack({"model": {"type": kind, **model_of[kind]}, **parts}, [], [])


def test_other_ids_on_any_probe_leave_no_file(description, tmp_path, monkeypatch):
    """The proof is of the file that was written: a packing that loses a merge is found out."""

    def lossy(parsed: dict, prefix: list[int], suffix: list[int]) -> PackedFile:
        merges = parsed["model"]["merges"]
        return pack(changed(parsed, "model", "merges", value=merges[:50] + merges[51:]), prefix, suffix)

    monkeypatch.setattr("siglip_edge.exporter.tokenizers.packing.pack", lossy)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(NotPackable, match="other ids"):
        write_packed_tokenizer(tmp_path, path, lambda items, _: items)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_an_export_says_when_it_keeps_tokenizer_json(order, exported, tmp_path, monkeypatch, caplog):
    """Served from the reference then, and of the same space: a file's form is not the vectors' business."""

    def refuse(*_: object) -> None:
        raise NotPackable("a reason")

    monkeypatch.setattr("siglip_edge.exporter.export.write_packed_tokenizer", refuse)
    with caplog.at_level(logging.WARNING):
        directory = export(replace(order, output=tmp_path, precisions=[Precision.FP32]))
    assert "keeps tokenizer.json, which takes more memory: a reason" in caplog.text
    manifest = Manifest.load(directory)
    assert manifest.text.packed_tokenizer is None
    assert isinstance(load_tokenizer(directory, manifest.text), HuggingFaceTokenizer)
    assert manifest.space_id == Manifest.load(exported).space_id
