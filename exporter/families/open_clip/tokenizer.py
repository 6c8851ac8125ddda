"""The tokenizer of a checkpoint in OpenCLIP's format: the files beside it, or the table that OpenCLIP ships."""

from __future__ import annotations

import gzip
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.clip.texts import load_tokenizer
from siglip_edge.exporter.families.open_clip.configuration import Configuration

MERGES = "bpe_simple_vocab_16e6.txt.gz"
_MERGES_OF_CLIP = 49_152 - 256 - 2
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
SPELT = {_BEGIN: "<start_of_text>", _END: "<end_of_text>"}
"""OpenAI's spelling, which the files have, and OpenCLIP's, which its tokenizer looks for in texts."""


def open_tokenizer(configuration: Configuration) -> Any:
    """A fast tokenizer of transformers. Raises ExportError that says which files to put beside the weights."""
    source, named = configuration.source, configuration.text.get("hf_tokenizer_name")
    own_table = Path(source, MERGES)
    if not named and own_table.is_file():
        return from_merges(own_table)
    try:
        return load_tokenizer(source)
    except ExportError as error:
        if named:
            raise ExportError(f"{error}; put the tokenizer's files of {named} into the directory") from error
        if (shipped := _shipped_merges()) is not None:
            return from_merges(shipped)
        advice = f"put tokenizer.json of openai/clip-vit-base-patch32 or OpenCLIP's {MERGES} into the directory"
        raise ExportError(f"{error}; {advice}, or install open_clip_torch") from error


def from_merges(path: Path) -> Any:
    """CLIP's tokenizer from OpenCLIP's table: bytes, bytes that end a word, merges, begin and end."""
    from transformers import CLIPTokenizerFast
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES_OF_CLIP + 1]
    lines, alphabet = [line for line in lines if line], list(bytes_to_unicode().values())
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(line.split()) for line in lines)]
    ids = {piece: index for index, piece in enumerate([*pieces, _BEGIN, _END])}
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps(ids), encoding="utf-8")
        merges.write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
        return CLIPTokenizerFast(str(vocabulary), str(merges))


def respelt(serialized: str) -> str:
    """tokenizer.json of CLIP with OpenCLIP's begin and end tokens, which it finds in lower-cased texts."""
    for theirs, ours in SPELT.items():
        serialized = serialized.replace(json.dumps(theirs), json.dumps(ours))
    description = json.loads(serialized)
    for token in description["added_tokens"]:
        token["normalized"] = token["content"] in SPELT.values()
    return json.dumps(description, ensure_ascii=False)


def without_padding(serialized: str, padding: str) -> str:
    """tokenizer.json that drops a padding token in a text: OpenCLIP hides it from every other token."""
    description = json.loads(serialized)
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] != padding]
    dropped = {"type": "Replace", "pattern": {"String": padding}, "content": " "}
    normalizers = [dropped, *([description["normalizer"]] if description["normalizer"] else [])]
    description["normalizer"] = {"type": "Sequence", "normalizers": normalizers}
    return json.dumps(description, ensure_ascii=False)


def _shipped_merges() -> Path | None:
    """The table of the package open_clip, if it is installed. It is not imported."""
    found = importlib.util.find_spec("open_clip")
    path = Path(found.origin).with_name(MERGES) if found and found.origin else None
    return path if path is not None and path.is_file() else None
