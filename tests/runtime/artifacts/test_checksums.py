"""A file's checksum is computed once, and again when the file is not the same any more."""

import os

import pytest

from siglip_edge.runtime.artifacts import checksums as module
from siglip_edge.runtime.artifacts.checksums import ChecksumCache, record_file, verify_file
from siglip_edge.runtime.errors import ArtifactCorrupt


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files that are read in full."""
    names: list[str] = []

    def verify(directory, record):
        names.append(record.path)
        return verify_file(directory, record)

    monkeypatch.setattr(module, "verify_file", verify)
    return names


@pytest.fixture
def record(tmp_path):
    (tmp_path / "weights").write_bytes(b"1234")
    return record_file(tmp_path, tmp_path / "weights")


def test_a_file_is_read_once_over_several_starts(tmp_path, record, read):
    for _ in range(3):
        assert ChecksumCache(tmp_path / "cache").verify(tmp_path, record) == tmp_path / "weights"
    assert read == ["weights"]


def test_a_changed_file_is_read_again_and_refused(tmp_path, record):
    """Of the same size, too."""
    verified = ChecksumCache(tmp_path / "cache")
    verified.verify(tmp_path, record)
    (tmp_path / "weights").write_bytes(b"1235")
    os.utime(tmp_path / "weights", ns=(1, 1))  # a file system's clock may be coarse
    with pytest.raises(ArtifactCorrupt, match="sha256 differs"):
        verified.verify(tmp_path, record)


def test_a_missing_file_is_refused(tmp_path, record):
    verified = ChecksumCache(tmp_path / "cache")
    verified.verify(tmp_path, record)
    (tmp_path / "weights").unlink()
    with pytest.raises(ArtifactCorrupt, match="missing"):
        verified.verify(tmp_path, record)


def test_a_manifest_that_asks_for_another_checksum_reads_again(tmp_path, record, read):
    verified = ChecksumCache(tmp_path / "cache")
    verified.verify(tmp_path, record)
    (tmp_path / "weights").write_bytes(b"9999")
    verified.verify(tmp_path, record_file(tmp_path, tmp_path / "weights"))
    assert read == ["weights", "weights"]


@pytest.mark.parametrize("place", [None, "file/cache"])
def test_without_a_place_to_remember_every_start_reads(tmp_path, record, read, place):
    (tmp_path / "file").touch()
    for _ in range(2):
        ChecksumCache(place and tmp_path / place).verify(tmp_path, record)
    assert read == ["weights", "weights"]
