"""The photographs that ship with the tests are few, small and attributed."""

import csv
from pathlib import Path


def test_each_photograph_is_attributed(photographs: list[Path]) -> None:
    """ATTRIBUTION.tsv names the licence and the source of each file, and no file that is absent."""
    with (Path(__file__).parent / "photos/ATTRIBUTION.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["file"] for row in rows] == [photograph.name for photograph in photographs]
    assert all(row["licence"] == "CC BY 2.0" and row["source_photo"].startswith("http") for row in rows)


def test_the_photographs_are_small(photographs: list[Path]) -> None:
    """A clone of the repository carries less than 500 kB of them."""
    assert 0 < sum(photograph.stat().st_size for photograph in photographs) < 500_000
