"""The token table outside the graph: exact where it is float, within half a step where it is int8."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import VocabularySpec
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.machine.memory import read_memory
from siglip_edge.runtime.text.vocabulary import Vocabulary, write_vocabulary

TABLE = (np.random.default_rng(0).standard_normal((5000, 12)) * np.logspace(-4, 1, 5000)[:, None]).astype(np.float32)
IDS = np.array([[0, 1, 4999], [4096, 4095, 7]])


def written(directory, dtype: str) -> Vocabulary:
    path = directory / "vocabulary.bin"
    with path.open("wb") as file:
        write_vocabulary(file, TABLE, dtype)
    record = FileRecord(path=path.name, size=path.stat().st_size, sha256="")
    return Vocabulary.load(directory, VocabularySpec(file=record, dtype=dtype, rows=5000, width=12))


def test_float32_is_exact(tmp_path):
    assert np.array_equal(written(tmp_path, "float32").lookup(IDS), TABLE[IDS])


def test_float16_is_rounded_once(tmp_path):
    assert np.array_equal(written(tmp_path, "float16").lookup(IDS), TABLE[IDS].astype(np.float16).astype(np.float32))


def test_int8_is_within_half_a_step_of_its_rows_scale(tmp_path):
    """Every row has its own scale: small rows beside large ones lose nothing."""
    rows = written(tmp_path, "int8").lookup(IDS)
    step = np.abs(TABLE[IDS]).max(axis=-1, keepdims=True) / 127
    assert (np.abs(rows - TABLE[IDS]) <= step * 0.5001).all()


def test_a_zero_row_stays_zero(tmp_path):
    """Padding rows are often all zeros; no division by zero may touch them."""
    with (tmp_path / "zero.bin").open("wb") as file:
        write_vocabulary(file, np.zeros((2, 3), np.float32), "int8")
    record = FileRecord(path="zero.bin", size=14, sha256="")
    loaded = Vocabulary.load(tmp_path, VocabularySpec(file=record, dtype="int8", rows=2, width=3))
    assert not loaded.lookup(np.array([[0, 1]])).any()


def test_a_file_of_another_size_is_refused(tmp_path):
    written(tmp_path, "int8")
    record = FileRecord(path="vocabulary.bin", size=0, sha256="")
    with pytest.raises(ArtifactCorrupt, match="its shape needs"):
        Vocabulary.load(tmp_path, VocabularySpec(file=record, dtype="int8", rows=5001, width=12))


@pytest.mark.parametrize("wrong", [5000, -1])
def test_an_id_that_is_no_row_is_refused(tmp_path, wrong):
    """Not the row that lies there by accident: a scale, or the table's last row."""
    with pytest.raises(IndexError, match="is no row"):
        written(tmp_path, "int8").lookup(np.array([[1, wrong]]))


def test_a_table_stays_on_disk(tmp_path):
    """Texts that touch rows all over the table leave next to none of it resident."""
    path, rows, width = tmp_path / "vocabulary.bin", 16_384, 4096
    path.write_bytes(b"\1" * (rows * width + 4 * rows))
    record = FileRecord(path=path.name, size=path.stat().st_size, sha256="")
    vocabulary = Vocabulary.load(tmp_path, VocabularySpec(file=record, dtype="int8", rows=rows, width=width))
    before = read_memory().resident
    for start in range(0, rows, 64):
        vocabulary.lookup(np.arange(start, start + 64)[None])
    assert read_memory().resident - before < rows * width / 4


def test_threads_read_rows_at_the_same_time(tmp_path):
    vocabulary = written(tmp_path, "float32")
    ids = np.random.default_rng(1).integers(0, 5000, (200, 2, 7))
    with ThreadPoolExecutor(8) as pool:
        assert all(
            np.array_equal(rows, TABLE[each]) for rows, each in zip(pool.map(vocabulary.lookup, ids), ids, strict=True)
        )
