"""A hub's repository, through huggingface_hub: HF_ENDPOINT, tokens and HF_HUB_OFFLINE count as in that library."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import huggingface_hub as hub
from huggingface_hub import constants, errors

from siglip_edge.cli.pulling.errors import ConnectionBroken, PullError, first_line, is_of_disk
from siglip_edge.runtime.artifacts.checksums import FileRecord
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

    def fetch_manifest(self, folder: Path) -> None:
        if not constants.HF_HUB_OFFLINE:
            self._find_commit()
        self._fetch(MANIFEST, folder)

    def fetch(self, record: FileRecord, folder: Path) -> None:
        self._fetch(record.path, folder)

    def started(self, record: FileRecord, folder: Path) -> int:
        """The library names an unfinished file by its ETag, which only the hub knows: none counts."""
        del record, folder
        return 0

    def _find_commit(self) -> None:
        try:
            found = hub.HfApi(endpoint=self.endpoint).model_info(self.name, revision=self._revision)
        except Exception as error:  # also those of the library's HTTP client, which changes between its versions
            raise self._refusal(MANIFEST, error) from error
        names = {file.rfilename for file in found.siblings or ()}
        if MANIFEST not in names:
            raise PullError(self._lacks_manifest(names))
        self._commit = found.sha or self._revision

    def _lacks_manifest(self, names: set[str]) -> str:
        if _CHECKPOINT in names:
            return f"{self.name}: a checkpoint and no model directory; make one: {export_command(self.name)}"
        return f"{self.name}: no model directory, it has no {MANIFEST}"

    def _fetch(self, path: str, folder: Path) -> None:
        """Straight into `folder`, so that no second copy lies in the library's cache; offline, from that cache."""
        try:
            if constants.HF_HUB_OFFLINE:
                self._copy(path, folder)
            else:
                hub.hf_hub_download(self.name, path, revision=self._commit, local_dir=folder, endpoint=self.endpoint)
        except Exception as error:
            raise self._refusal(path, error) from error

    def _copy(self, path: str, folder: Path) -> None:
        cached = hub.hf_hub_download(self.name, path, revision=self._commit)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, folder / path)

    def _refusal(self, path: str, error: Exception) -> PullError:
        """The library's error in one sentence with its remedy."""
        where = f"{self.endpoint}/{self.name}"
        if isinstance(error, errors.GatedRepoError):
            return PullError(f"{self.name}: gated; accept its terms at {where}, then set HF_TOKEN to your token")
        if isinstance(error, errors.RepositoryNotFoundError):
            return PullError(f"{where}: not found, or private; check the id, and set HF_TOKEN for a private one")
        if isinstance(error, errors.RevisionNotFoundError):
            return PullError(f"{self.name}: no revision {self._revision!r}")
        if constants.HF_HUB_OFFLINE and isinstance(error, errors.LocalEntryNotFoundError):
            return PullError(f"{self.name}: {path} is not in the hub's cache, and HF_HUB_OFFLINE is set")
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            return PullError(f"{self.name}: {path} is listed in {MANIFEST} but is not in the repository")
        if is_of_disk(error):
            raise error
        return ConnectionBroken(f"{where}: {path} cannot be fetched ({first_line(_cause(error))})")


def _cause(error: Exception) -> BaseException:
    """The library wraps a connection that failed in a sentence about its cache."""
    is_wrapped = isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None
    return error.__cause__ if is_wrapped and error.__cause__ is not None else error
