"""A hub's repository. HF_ENDPOINT, tokens, HF_HUB_OFFLINE and the cache count as in huggingface_hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import huggingface_hub as hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import build_hf_headers

from siglip_edge.cli.pulling.errors import ConnectionBroken, PullError, is_of_disk, reason_of
from siglip_edge.cli.pulling.transfer import transfer
from siglip_edge.cli.pulling.url import LARGEST_MANIFEST
from siglip_edge.runtime.artifacts.checksums import FileRecord, sha256_of
from siglip_edge.runtime.artifacts.manifest import MANIFEST
from siglip_edge.runtime.known_models.table import export_command

_CHECKPOINT = "config.json"


class HubSource:
    """One commit of a repository: a push during the pull does not mix two versions."""

    endpoint: ClassVar[str] = constants.ENDPOINT

    def __init__(self, repository: str, revision: str | None) -> None:
        self.name = repository
        self._revision = revision or constants.DEFAULT_REVISION
        self._commit = self._revision
        """Until the manifest was fetched."""

    def fetch_manifest(self, to: Path) -> None:
        try:
            if constants.HF_HUB_OFFLINE:
                self._copy(MANIFEST, to)
                return
            self._find_commit()
            self._transfer(MANIFEST, to, LARGEST_MANIFEST)
        except Exception as error:  # also those of the library's HTTP client, which changes between its versions
            raise self._refusal(MANIFEST, error) from error

    def fetch(self, record: FileRecord, to: Path) -> None:
        try:
            if constants.HF_HUB_OFFLINE or self._is_cached(record):
                self._copy(record.path, to)
            else:
                self._transfer(record.path, to, record.size)
        except Exception as error:
            raise self._refusal(record.path, error) from error

    def _find_commit(self) -> None:
        found = hub.HfApi(endpoint=self.endpoint).model_info(self.name, revision=self._revision)
        names = {file.rfilename for file in found.siblings or ()}
        if MANIFEST not in names:
            raise PullError(self._lacks_manifest(names))
        self._commit = found.sha or self._revision

    def _lacks_manifest(self, names: set[str]) -> str:
        if _CHECKPOINT in names:
            return f"{self.name}: a checkpoint and no model directory; make one: {export_command(self.name)}"
        return f"{self.name}: no model directory, it has no {MANIFEST}"

    def _transfer(self, path: str, to: Path, most: int) -> None:
        """The token goes to the hub alone, not to the store to which it redirects."""
        url = hub.hf_hub_url(self.name, path, revision=self._commit, endpoint=self.endpoint)
        found = hub.get_hf_file_metadata(url, endpoint=self.endpoint)
        if found.size is not None and found.size > most:
            raise PullError(f"{self.name}: {path} has {found.size} bytes, {most} at most are expected")
        is_hub = urlsplit(found.location).netloc == urlsplit(url).netloc
        transfer(found.location, to, most, whole=found.size, headers=build_hf_headers() if is_hub else {})

    def _cached(self, path: str) -> Path | None:
        found = hub.try_to_load_from_cache(self.name, path, revision=self._commit)
        return Path(found) if isinstance(found, str) else None

    def _is_cached(self, record: FileRecord) -> bool:
        found = self._cached(record.path)
        return found is not None and sha256_of(found) == record.sha256

    def _copy(self, path: str, to: Path) -> None:
        found = self._cached(path)
        if found is None:
            raise PullError(f"{self.name}: {path} is not in the hub's cache, and HF_HUB_OFFLINE is set")
        shutil.copyfile(found, to)

    def _refusal(self, path: str, error: Exception) -> Exception:
        """The library's error in one sentence with its remedy."""
        where = f"{self.endpoint}/{self.name}"
        if isinstance(error, PullError) or is_of_disk(error):
            return error
        if isinstance(error, errors.GatedRepoError):
            return PullError(f"{self.name}: gated; accept its terms at {where}, then set HF_TOKEN to your token")
        if isinstance(error, errors.RepositoryNotFoundError):
            return PullError(f"{where}: not found, or private; check the id, and set HF_TOKEN for a private one")
        if isinstance(error, errors.RevisionNotFoundError):
            return PullError(f"{self.name}: no revision {self._revision!r}")
        if isinstance(error, errors.EntryNotFoundError):
            return PullError(f"{self.name}: {path} is listed in {MANIFEST} but is not in the repository")
        return ConnectionBroken(f"{where}: {path} cannot be fetched ({reason_of(error)})")
