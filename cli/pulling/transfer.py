"""Bytes of one URL into one file, which an interrupted transfer leaves for the next to continue."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub.file_download import http_get

from siglip_edge.cli.pulling.errors import PullError

_HEADERS = {"Accept-Encoding": "identity"}
"""Sizes are those of the files."""


class _Limited(io.FileIO):
    """A file that takes at most `most` bytes, whatever the server sends."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "ab")
        self._most = most

    def write(self, data: object) -> int:
        if self.tell() + len(memoryview(data)) > self._most:  # type: ignore[arg-type]
            raise PullError(f"the server sends more than {self._most} bytes")
        return super().write(data)  # type: ignore[arg-type]


def transfer(url: str, to: Path, most: int, *, whole: int | None = None, headers: Mapping[str, str] = {}) -> None:
    """Write what the URL has to the end of `to`. `whole`: the file's size, where it is known.

    huggingface_hub's own download of a whole file starts again after a kill since version 1; its transfer continues.
    """
    with _Limited(to, most) as file:
        shown = url.partition("?")[0].rpartition("/")[2]
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers={**headers, **_HEADERS},
            expected_size=whole,
            displayed_filename=shown,
        )
