"""The copy of onnxruntime that sees an older CPU."""

import shutil
import subprocess

import pytest

from siglip_edge.bench.older_cpu import cpuid_offsets, trap
from tests.test_packaging import ROOT

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("objdump")), reason="needs a C compiler and objdump"
)

PROGRAM = """
#include <cpuid.h>
#include <stdio.h>
int main(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 1;
  printf("%u %u\\n", b >> 16 & 1, c >> 11 & 1); /* AVX-512, VNNI */
  return 0;
}
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "p.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    return tmp_path / "p"


def test_a_program_whose_cpuid_is_trapped_sees_no_vnni_and_no_avx512(program, tmp_path):
    """It ends with status 0 and answers as on AVX2; no CPUID is left."""
    library = tmp_path / "older_cpu.so"
    subprocess.run(["gcc", "-shared", "-fPIC", ROOT / "bench/older_cpu.c", "-o", library], check=True)
    assert trap(program) > 0
    assert cpuid_offsets(program) == []
    seen = subprocess.run(
        [program], env={"LD_PRELOAD": str(library), "CPU": "avx2"}, capture_output=True, text=True, check=True
    )
    assert seen.stdout.split() == ["0", "0"]
