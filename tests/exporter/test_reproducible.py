"""One checkpoint gives one set of files: on a busy machine, in another process, after an interruption."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from siglip_edge.exporter.reproducible import side_by_side
from siglip_edge.runtime.artifacts.checksums import sha256_of
from siglip_edge.runtime.artifacts.manifest import Precision

ROOT = Path(__file__).parents[2]
REPORTS = {"report.json", "report.html"}
"""They carry a date, a machine and times; the manifest does not list them."""


def fingerprints(directory: Path) -> dict[str, str]:
    """File -> its sha256, the manifest included."""
    return {path.name: sha256_of(path) for path in sorted(directory.iterdir()) if path.name not in REPORTS}


@pytest.fixture
def both_cores_busy() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


@pytest.mark.usefixtures("both_cores_busy")
def test_a_busy_machine_writes_the_same_files(order, exported, tmp_path):
    """Every file in every precision, manifest included, from another process whose strings hash differently."""
    asked = ["-o", tmp_path, "--precision", ",".join(Precision), "--calibration-images", order.calibration_images]
    siglip_edge = [sys.executable, "-c", "from siglip_edge.cli.main import main; main()"]
    command = [*siglip_edge, "export", order.source, *asked, "--no-report"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert fingerprints(tmp_path / "tiny") == fingerprints(exported)


def test_rows_side_by_side_keep_their_order():
    assert list(side_by_side(lambda n: n * n, range(100))) == [n * n for n in range(100)]


def test_a_row_that_fails_raises():
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda n: 1 // n, [1, 0, 1]))
