"""Measurements that outlive an interruption: an export that is started again goes on where it was stopped.

A float is written to JSON with all its digits, so that a resumed export gives the same files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from siglip_edge.exporter.errors import FidelityError


class Ledger:
    """Name -> figure, in a JSON file. Figures of another `key` are dropped."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._figures: dict[str, float] = _read(path).get(key, {})

    def measured(self, name: str, measure: Callable[[], float]) -> float:
        """The figure of that name: as noted, else measured now and noted."""
        if name not in self._figures:
            self._figures[name] = measure()
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            beside.write_text(json.dumps({self._key: self._figures}))
            beside.replace(self._path)
        return self._figures[name]


@contextmanager
def open_ledger(path: Path, key: str) -> Iterator[Ledger]:
    """A ledger that stays on disk only when the work in the block was interrupted before it came to an end."""
    try:
        yield Ledger(path, key)
    except FidelityError:  # an end, too
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        noted: dict[str, dict[str, float]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return noted
