"""The directory for the metrics of all workers of one server, made at the start and removed at the end."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "siglip-edge-metrics-"


@dataclass(frozen=True)
class MetricsDirectory:
    """A directory with a lock that ends with its last process: a later start then knows that nobody uses it."""

    path: Path
    lock: int
    """File descriptor. Workers inherit it, so that a killed parent's directory stays until they have ended too."""

    @classmethod
    def create(cls, parent: str | None) -> MetricsDirectory:
        """Make a new one below `parent`, by default the directory for temporary files. Stale ones are removed."""
        above = Path(parent or tempfile.gettempdir())
        for stale in above.glob(f"{_PREFIX}*"):
            _remove_unused(stale)
        while True:
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=above))
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():  # else another start has just removed it as stale, before the lock
                return cls(path, lock)
            os.close(lock)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _remove_unused(path: Path) -> None:
    """Remove `path` unless a living process holds its lock, or another user owns it."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
