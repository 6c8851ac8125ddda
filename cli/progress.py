"""How far long work is, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click


def progress(items: Iterable[Any], what: str) -> Iterable[Any]:
    with click.progressbar(items, label=what, file=sys.stderr) as bar:
        yield from bar
