"""A directory on any web server: the URL of the directory, or of the manifest.json in it."""

from __future__ import annotations

import io
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from huggingface_hub import errors
from huggingface_hub.file_download import http_get

from siglip_edge.cli.pulling.errors import ConnectionBroken, PullError, first_line, is_of_disk
from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import MANIFEST

LARGEST_MANIFEST = 16 << 20
"""Bytes. The demo model's has 36 kB; no graph is mistaken for a manifest."""
_PARTIAL = ".unfinished"
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


class UrlSource:
    """Every file is at the directory's URL and its path; a query, as in a signed URL, is kept."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url.removesuffix(MANIFEST))
        self.name = urlunsplit(self._url._replace(query="", fragment=""))

    def fetch_manifest(self, folder: Path) -> None:
        self._get(MANIFEST, folder / MANIFEST, LARGEST_MANIFEST, whole=None)

    def fetch(self, record: FileRecord, folder: Path) -> None:
        unfinished, path = self._unfinished(record, folder), folder / record.path
        unfinished.parent.mkdir(exist_ok=True)
        self._get(record.path, unfinished, record.size, whole=record.size)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(path)

    def started(self, record: FileRecord, folder: Path) -> int:
        unfinished = self._unfinished(record, folder)
        return unfinished.stat().st_size if unfinished.exists() else 0

    def _unfinished(self, record: FileRecord, folder: Path) -> Path:
        """Named by its content, so that the bytes of two versions of a file are never joined."""
        return folder / _PARTIAL / record.sha256[:32]

    def _get(self, path: str, to: Path, most: int, *, whole: int | None) -> None:
        """Write what the server has at `path`. `whole`: its size, where it is known."""
        url = self._url_of(path)
        try:
            with _Limited(to, most) as file:
                http_get(url, file, resume_size=file.tell(), headers=_HEADERS, expected_size=whole)
        except PullError as error:
            raise PullError(f"{url}: {error}") from None
        except errors.HfHubHTTPError as error:
            if error.response.status_code == 404:
                raise PullError(f"{url}: not found (404)") from error
            raise PullError(f"{url}: the server answers {error.response.status_code}") from error
        except Exception as error:  # also those of the library's HTTP client, which changes between its versions
            if is_of_disk(error):
                raise
            raise ConnectionBroken(f"{url}: cannot be fetched ({first_line(error)})") from error

    def _url_of(self, path: str) -> str:
        return urlunsplit(self._url._replace(path=f"{self._url.path.rstrip('/')}/{quote(path)}", fragment=""))
