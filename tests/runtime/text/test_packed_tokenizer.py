"""The shipped model's packed tokenizer in memory; that its ids are the reference's, tests/exporter/test_packed_tokenizer_export.py shows."""

import re
from pathlib import Path

import pytest

from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer

FILE = Path(__file__).parents[3] / "quantized_models/emoji-siglip/tokenizer.bin"
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
