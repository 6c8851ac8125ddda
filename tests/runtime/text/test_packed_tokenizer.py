"""The shipped model's packed tokenizer, a file of layout 1. What the exporter writes today, tests/exporter/ tests."""

import re
from pathlib import Path

import pytest

from siglip_edge.exporter.tokenizers.packing import read_description
from siglip_edge.exporter.tokenizers.probes import long_texts, probe_texts
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer

MODEL = Path(__file__).parents[3] / "quantized_models/emoji-siglip"
FILE = MODEL / "tokenizer.bin"
SMAPS = Path("/proc/self/smaps")


def resident(path: Path) -> int:
    """KiB of the file that this process has mapped and touched."""
    return sum(map(int, re.findall(rf" {re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", SMAPS.read_text())))


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what of a file is resident")
def test_at_rest_nothing_of_the_file_is_resident():
    """The next text maps again what it needs, and gets the same ids."""
    tokenizer = PackedTokenizer(PackedFile.load(FILE))
    ids = tokenizer("a photograph of an octopus")
    assert resident(FILE) > 0
    tokenizer.rest()
    assert resident(FILE) == 0
    assert tokenizer("a photograph of an octopus") == ids
    assert tokenizer("another one of an octopus, not yet known")[-1] == ids[-1]
    assert resident(FILE) > 0


def test_a_file_of_layout_1_gives_the_references_ids():
    """A model that was exported before layout 2 is served as before, though its merges are a table of pairs."""
    listed = Manifest.load(MODEL).text.packed_tokenizer
    assert listed is not None
    assert listed.layout == 1
    packed, reference = PackedTokenizer(PackedFile.load(FILE)), HuggingFaceTokenizer(MODEL / "tokenizer.json")
    description = read_description(reference)
    for text in (*probe_texts(description, 2000, seed=3), *long_texts(description)):
        assert packed(text) == reference(text)
