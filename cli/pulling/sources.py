"""Where a model directory comes from: a hub's repository or a URL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from siglip_edge.cli.pulling.errors import PullError
from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.server.config.listed_models import hub_names

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".tar.xz", ".tar.zst")


class Source(Protocol):
    """A place that has the files of a model directory."""

    name: str
    """For messages."""

    def fetch_manifest(self, to: Path) -> None:
        """Write the content of manifest.json to `to`, which does not exist. Raises PullError when there is none."""

    def fetch(self, record: FileRecord, to: Path) -> None:
        """Write one file's content to `to`; where an earlier attempt has left its beginning, continue it.

        The caller verifies the file. Raises PullError; ConnectionBroken when another attempt may help.
        """


def source_of(given: str, revision: str | None) -> Source:
    """The source that the user means. `revision`: branch, tag or commit of a repository. Raises PullError."""
    from siglip_edge.cli.pulling.hub import HubSource
    from siglip_edge.cli.pulling.url import UrlSource

    if repository := _repository(given):
        return HubSource(repository[0], revision or repository[1])
    if not given.startswith(("http://", "https://")):
        raise PullError(f"{given}: neither a hub's repository, OWNER/NAME, nor a URL, https://…")
    if revision:
        raise PullError(f"{given}: a URL has no revisions; --revision belongs to a hub's repository")
    url = urlsplit(given)
    if url.username is not None:
        raise PullError(f"{url.hostname}: user names and passwords in a URL are not sent; remove them")
    if url.path.lower().endswith(_ARCHIVES):
        raise PullError(f"{given}: an archive; give the URL of a directory with manifest.json in it")
    return UrlSource(given)


def name_of(given: str) -> str:
    """The name of the model directory: the last part of a repository's id or of a URL."""
    repository = _repository(given)
    return repository[0].partition("/")[2] if repository else urlsplit(given).path.rstrip("/").rpartition("/")[2]


def _repository(given: str) -> tuple[str, str | None] | None:
    """Id and revision of a repository, also of its page on the hub, as a browser shows it."""
    from siglip_edge.cli.pulling.hub import HubSource

    if hub_names(given):
        return given, None
    page = re.escape(HubSource.endpoint.rstrip("/"))
    found = re.fullmatch(rf"{page}/(?P<id>[^/?#]+/[^/?#]+?)(?:/tree/(?P<revision>[^/?#]+))?/?", given)
    return (found["id"], found["revision"]) if found and hub_names(found["id"]) else None
