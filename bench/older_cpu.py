"""A copy of onnxruntime for `older_cpu.c`, on CPUs without CPUID faulting: every CPUID instruction raises a signal.

    python -m siglip_edge.bench.older_cpu FOLDER
    CPU=avx2 LD_PRELOAD=./older_cpu.so PYTHONPATH=FOLDER python -m siglip_edge.bench.operators MODEL

FOLDER gets the package `onnxruntime` of this environment. In its libraries each CPUID instruction becomes UD2, which is
as long; `older_cpu.c` answers for it. Needs objdump, which tells instructions from data.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

_CPUID, _UD2 = b"\x0f\xa2", b"\x0f\x0b"


def copy_package(folder: Path) -> Path:
    """-> the copy of onnxruntime in `folder`."""
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    target = folder / "onnxruntime"
    shutil.copytree(Path(spec.origin).parent, target)
    return target


def cpuid_offsets(library: Path) -> list[int]:
    """Positions in the file of all CPUID instructions."""
    lines = _run("objdump", "--disassemble", "--no-show-raw-insn", "--file-offsets", str(library)).splitlines()
    shift = next(_shift_of(line) for line in lines if "(File Offset:" in line)
    return [int(line.partition(":")[0], 16) - shift for line in lines if line.rstrip().endswith("\tcpuid")]


def _shift_of(line: str) -> int:
    """Address minus position in the file, of a line as in `0000000000de7000 <f> (File Offset: 0xde6000):`."""
    address, offset = line.split(maxsplit=1)[0], line.rpartition("0x")[2].rstrip("):")
    return int(address, 16) - int(offset, 16)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def trap(library: Path) -> int:
    """Replace every CPUID instruction. -> their number."""
    content, offsets = bytearray(library.read_bytes()), cpuid_offsets(library)
    for offset in offsets:
        assert content[offset : offset + 2] == _CPUID, f"{library}: no CPUID at {offset:#x}"
        content[offset : offset + 2] = _UD2
    library.write_bytes(content)
    return len(offsets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for library in sorted(copy_package(parser.parse_args().folder).rglob("*.so*")):
        print(f"{library.name}: {trap(library)} CPUID instructions")


if __name__ == "__main__":
    main()
