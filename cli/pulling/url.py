"""A directory on any web server: the URL of the directory, or of the manifest.json in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from huggingface_hub import constants, errors
from huggingface_hub.utils import get_session

from siglip_edge.cli.pulling.errors import ConnectionBroken, PullError, is_of_disk, is_refused, reason_of
from siglip_edge.cli.pulling.transfer import transfer
from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import MANIFEST

LARGEST_MANIFEST = 16 << 20
"""Bytes. The demo model's has 36 kB; no graph is mistaken for a manifest."""


class UrlSource:
    """Every file is at the directory's URL and its path; a query, as in a signed URL, is kept."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url.removesuffix(MANIFEST))
        self.name = urlunsplit(self._url._replace(query="", fragment=""))

    def fetch_manifest(self, to: Path) -> None:
        self._check_listens()
        self._transfer(MANIFEST, to, LARGEST_MANIFEST, whole=None)

    def _check_listens(self) -> None:
        """Raise ConnectionBroken when nobody listens. The transfer would ask again for half a minute."""
        try:
            get_session().head(self._url_of(MANIFEST), timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        except Exception as error:  # of whichever HTTP client the library has
            if is_refused(error):
                raise self._refusal(MANIFEST, error) from error

    def fetch(self, record: FileRecord, to: Path) -> None:
        self._transfer(record.path, to, record.size, whole=record.size)

    def _transfer(self, path: str, to: Path, most: int, *, whole: int | None) -> None:
        try:
            transfer(self._url_of(path), to, most, whole=whole)
        except Exception as error:  # also those of the library's HTTP client, which changes between its versions
            if is_of_disk(error):
                raise
            raise self._refusal(path, error) from error

    def _refusal(self, path: str, error: Exception) -> PullError:
        where = f"{self.name.rstrip('/')}/{path}"
        if isinstance(error, PullError):
            return PullError(f"{where}: {error}")
        if isinstance(error, errors.HfHubHTTPError):
            status = error.response.status_code
            return PullError(f"{where}: {'not found' if status == 404 else 'the server answers'} ({status})")
        return ConnectionBroken(f"{where}: cannot be fetched ({reason_of(error)})")

    def _url_of(self, path: str) -> str:
        return urlunsplit(self._url._replace(path=f"{self._url.path.rstrip('/')}/{quote(path)}", fragment=""))
