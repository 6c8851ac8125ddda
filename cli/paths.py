"""Arguments of commands that name files: they are checked before any work begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class GivenPath(click.Path):
    """A path that is not empty. An empty one is usually a variable of the shell that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("it is empty; give a path", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(GivenPath):
    """A file that will be written in the end: its folder must take it and its suffix must be one of `suffixes`."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(super().convert(value, param, ctx))
        if self._suffixes and path.suffix.lower() not in self._suffixes:
            self.fail(f"{path}: the name must end in {' or '.join(self._suffixes)}", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"{path}: there is no folder {path.parent}", param, ctx)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            self.fail(f"{path}: no file can be written in {path.parent}", param, ctx)
        return path


FOLDER = GivenPath(exists=True, file_okay=False, path_type=Path)
"""A folder that exists."""

FILE = GivenPath(exists=True, dir_okay=False, readable=True, path_type=Path)
"""A file that exists and can be read."""

PLOT = OutputFile(".svg", ".png")
"""A picture that will be drawn in the end."""
