"""A directory that is written beside its place and takes it when it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def put_in_place(beside: Path, target: Path) -> None:
    """Rename `beside` to `target`; a directory that is there is removed afterwards. Both have the same parent."""
    if not target.exists():
        beside.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    beside.rename(target)
    shutil.rmtree(old)
