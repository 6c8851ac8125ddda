"""Memory as the kernel counts it."""

import mmap
import subprocess
import sys

import numpy as np
import pytest

from siglip_edge.runtime.machine.memory import give_back, read_memory, unwritten_code

ROLLUP = """\
55d0c8a5e000-7ffd9b1f2000 ---p 00000000 00:00 0                          [rollup]
Rss:                2000 kB
Pss:                1500 kB
Pss_Dirty:           900 kB
Private_Clean:       100 kB
Private_Dirty:       900 kB
Anonymous:           800 kB
"""


def test_the_kernels_account_is_read_in_bytes(tmp_path):
    (tmp_path / "smaps_rollup").write_text(ROLLUP)
    memory = read_memory(tmp_path / "smaps_rollup")
    assert (memory.resident, memory.proportional) == (2000 << 10, 1500 << 10)
    assert (memory.private, memory.anonymous) == (1000 << 10, 800 << 10)


def test_a_mapped_file_is_resident_but_not_anonymous(tmp_path):
    """What distinguishes weights in the page cache from weights on the heap."""
    path = tmp_path / "weights"
    path.write_bytes(b"w" * (32 << 20))
    before = read_memory()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) > 0
        after = read_memory()
    assert after.resident - before.resident > 24 << 20
    assert after.anonymous - before.anonymous < 8 << 20


def test_freed_memory_goes_back_to_the_system():
    """Many small blocks, freed but for the last one: the heap's top cannot shrink, only trimming returns them."""
    blocks = [np.ones(8 << 10, np.uint8) for _ in range(8 << 10)]
    last = blocks.pop()
    full = read_memory().anonymous
    blocks.clear()
    give_back()
    assert full - read_memory().anonymous > 48 << 20
    assert last.sum() == 8 << 10


def test_code_that_ran_once_is_forgotten_and_comes_back_when_it_runs():
    """Importing onnxruntime maps megabytes of code and constants; nothing that was written to is lost."""
    script = """
import numpy, onnxruntime
from siglip_edge.runtime.machine.memory import forget_code, read_memory
before = read_memory()
forget_code()
after = read_memory()
assert before.resident - after.resident > 4 << 20, (before, after)
assert before.anonymous - after.anonymous <= 1 << 20, (before, after)
assert onnxruntime.get_available_providers() and numpy.linalg.norm(numpy.ones(4)) == 2
"""
    subprocess.run([sys.executable, "-c", script], check=True)


MAPPING = """\
{where} {mode} 00000000 fe:00 5497569                                {path}
Size:                  5208 kB
Rss:                {resident:8} kB
Pss:                     12 kB
Anonymous:          {anonymous:8} kB
THPeligible:    0
VmFlags: rd ex mr me
"""
CODE = {"where": "400000-916000", "mode": "r-xp", "path": "/usr/lib/libm.so.6", "resident": 1000, "anonymous": 0}
DATA = {**CODE, "where": "930000-a5f000", "mode": "rw-p", "anonymous": 40}


def test_code_that_nothing_wrote_to_can_be_forgotten():
    """A library's mappings with resident pages, of which none is anonymous."""
    maps = MAPPING.format_map(CODE) + MAPPING.format_map(DATA)
    assert unwritten_code(maps) == [(0x400000, 0x516000)]


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param({"anonymous": 4}, id="relocated by the linker"),
        pytest.param({"mode": "rw-p"}, id="data"),
        pytest.param({"path": "/usr/share/locale"}, id="another file"),
        pytest.param({"resident": 0}, id="QEMU's zeros, which say nothing about writes"),
    ],
)
def test_every_other_mapping_is_kept(kept):
    """What a neighbour's fields say does not count for it."""
    assert unwritten_code(MAPPING.format_map(CODE | kept) + MAPPING.format_map(DATA)) == []
    assert len(unwritten_code(MAPPING.format_map(CODE | kept) + MAPPING.format_map(CODE))) == 1
