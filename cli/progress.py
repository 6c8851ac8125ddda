"""A progress bar on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click


def progress(items: Iterable[Any], what: str) -> Iterable[Any]:
    """Yield `items` and show the progress with the label `what`."""
    with click.progressbar(items, label=what, file=sys.stderr) as bar:
        yield from bar
