"""Checksums, computed once: reading 400 MB at every start would cost more than loading the model.

A file counts as verified while its size and modification time stay what they were when its sha256 was last computed.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import FileRecord, verify_file


class ChecksumCache:
    """Remembers in `directory`, one empty file each; with None, or where it cannot write, it remembers nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def verify(self, directory: Path, record: FileRecord) -> Path:
        """`manifest.verify_file`, which reads the whole file, unless this very file passed it before."""
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
        """Its name is a digest of all that was verified, so that any change looks for another mark."""
        if self._directory is None or not path.exists():
            return None
        found = path.stat()
        facts = (path.resolve(), found.st_size, found.st_mtime_ns, record.size, record.sha256)
        return self._directory / hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
