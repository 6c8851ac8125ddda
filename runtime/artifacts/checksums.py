"""Record and verify the size and SHA-256 of a model directory's files.

Reading every file at every start would take longer than loading the model. A file therefore counts as verified as long
as its size and modification time are the same as when its SHA-256 was last computed.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import msgspec

from siglip_edge.runtime.errors import ArtifactCorrupt, ManifestInvalid


class UnsafePath(ManifestInvalid):
    """A recorded path points outside its directory."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a model directory. `path` is relative and stays inside the directory; `size` is in bytes."""

    path: str
    size: int
    sha256: str


def check_path(record: FileRecord) -> None:
    """Raise UnsafePath when the record names a file outside its directory, or none."""
    path = Path(record.path)
    if path.is_absolute() or ".." in path.parts or not path.name or not record.path.isprintable():
        raise UnsafePath(f"{record.path!r} points outside the model directory")


def record_file(directory: Path, path: Path) -> FileRecord:
    """Measure one file: size in bytes and SHA-256."""
    return FileRecord(path=str(path.relative_to(directory)), size=path.stat().st_size, sha256=sha256_of(path))


def verify_file(directory: Path, record: FileRecord) -> Path:
    """Read the whole file and return its path. Raises ArtifactCorrupt when its size or SHA-256 is not the recorded."""
    path = directory / record.path
    try:
        size = path.stat().st_size
    except OSError:
        raise ArtifactCorrupt(f"{path}: missing, though the manifest lists it; run the export again") from None
    if size != record.size:
        raise ArtifactCorrupt(f"{path}: has {size} bytes, the manifest says {record.size}; run the export again")
    if sha256_of(path) != record.sha256:
        raise ArtifactCorrupt(f"{path}: sha256 differs from the manifest; run the export again")
    return path


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ChecksumCache:
    """Remembers verified files: one empty file in `directory` per verified file.

    It remembers nothing when `directory` is None or cannot be written.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def verify(self, directory: Path, record: FileRecord) -> Path:
        """Like `verify_file`, but does not read a file that was verified before and has not changed since."""
        path = directory / record.path
        mark = self._mark(path, record)
        if mark is not None and mark.exists():
            return path
        verify_file(directory, record)
        if mark is not None:
            with suppress(OSError):
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
        return path

    def _mark(self, path: Path, record: FileRecord) -> Path | None:
        """The empty file for a verified file. Its name is a digest of path, size, modification time and record."""
        if self._directory is None or not path.exists():
            return None
        found = path.stat()
        facts = (path.resolve(), found.st_size, found.st_mtime_ns, record.size, record.sha256)
        return self._directory / hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
