"""Image files below IMAGE_ROOT, by the paths that callers send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_FILE_URI = re.compile(r"file:(?://(?:localhost(?=/))?)?", re.IGNORECASE)
"""The part of a `file:` URI before its path. `file://a/b.png` has a path below the root, although it names a host."""


@dataclass(frozen=True)
class ImageRoot:
    folder: Path

    def read(self, source: str, most_bytes: int) -> bytes | None:
        """The file, or its first `most_bytes`. None: there is no such file."""
        root = self.folder.resolve()
        for path in _paths(source):
            try:
                found = (root / path).resolve()
                if found.is_relative_to(root) and found.is_file():
                    with found.open("rb") as file:
                        return file.read(most_bytes)
            except (OSError, ValueError):  # unreadable, or a name that no file can have
                continue
        return None

    def contains(self, source: str) -> bool:
        """Whether an absolute path begins with the folder."""
        return source.startswith((f"{self.folder}/", f"{self.folder.resolve()}/"))


def _paths(source: str) -> Iterator[str]:
    """As sent; percent-decoded, as in URIs; with slashes for the backslashes of Windows."""
    uri = _FILE_URI.match(source)
    path = source[uri.end() :] if uri else source
    decoded = unquote(path)
    yield from dict.fromkeys((decoded, path) if uri else (path, decoded))
    if "\\" in decoded:
        yield decoded.replace("\\", "/")
