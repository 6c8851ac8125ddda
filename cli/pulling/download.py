"""Manifest first, then the files that it lists: each verified, staged beside the target, renamed when all are there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from msgspec.structs import replace

from siglip_edge.cli.pulling.errors import ConnectionBroken, PullError
from siglip_edge.cli.pulling.sources import Source
from siglip_edge.runtime.artifacts.checksums import FileRecord, verify_file
from siglip_edge.runtime.artifacts.manifest import MANIFEST, Manifest, Precision, Towers
from siglip_edge.runtime.artifacts.placement import put_in_place
from siglip_edge.runtime.errors import ArtifactCorrupt, ManifestInvalid

SPARE = 16 << 20
"""Bytes of the disk that stay free: the manifest, and the directories' own blocks."""
_LOCK, _UNFINISHED = ".lock", ".unfinished"
ATTEMPTS = 4
"""Of one file, each where the last one stopped."""
_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """The user's wishes."""

    source: Source
    target: Path
    """The model directory to be."""
    precisions: Collection[Precision] = ()
    """Empty: all that the source has."""
    overwrite: bool = False


def pull(order: Order, say: Callable[[str], None]) -> Manifest:
    """Make the model directory, whole or not at all. What a stopped pull has fetched, the next one continues.

    Raises PullError, ManifestInvalid, or OSError when the disk is full. `say`: takes a line per step.
    """
    with _staged(order) as folder:
        manifest = _manifest(order, folder)
        missing = [record for record in manifest.files() if not _is_whole(folder, record)]
        _check_disk(order, missing, folder)
        for record in missing:
            say(f"{record.path} ({record.size / 1e6:.1f} MB)")
            _fetch(order.source, record, folder)
        _remove_strangers(folder, manifest)
        put_in_place(folder, order.target)
    return manifest


@contextmanager
def _staged(order: Order) -> Iterator[Path]:
    """A directory beside the target, the same one for every attempt, of one process at a time."""
    target = order.target
    if target.exists() and not order.overwrite:
        raise PullError(f"{target}: exists already; pass --overwrite, or another --name")
    if target.exists() and not (target / MANIFEST).is_file():
        raise PullError(f"{target}: no model directory, so --overwrite does not replace it; pass another --name")
    folder = target.with_name(f".{target.name}.pull")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise PullError(f"{target}: another pull of it is under way") from None
    try:
        yield folder
    finally:
        lock.release()


def _manifest(order: Order, folder: Path) -> Manifest:
    """The source's manifest, or with a choice of precisions one that lists no other artifact."""
    (folder / MANIFEST).unlink(missing_ok=True)  # an earlier attempt's, perhaps of other precisions
    order.source.fetch_manifest(folder / MANIFEST)
    try:
        manifest = Manifest.load(folder)
    except ManifestInvalid as error:
        sentence = str(error).replace(str(folder / MANIFEST), f"{order.source.name}: {MANIFEST}")
        raise PullError(sentence) from error
    if not order.precisions:
        return manifest
    chosen = _only(manifest, order.precisions, order.source.name)
    chosen.save(folder)
    return chosen


def _only(manifest: Manifest, precisions: Collection[Precision], source: str) -> Manifest:
    if missing := set(precisions) - set(manifest.precisions()):
        raise PullError(
            f"{source}: no {', '.join(sorted(missing))}; it has {', '.join(manifest.precisions()) or 'none'}"
        )

    def kept(tower: str) -> object:
        artifacts = {
            name: made for name, made in getattr(manifest.towers, tower).artifacts.items() if name in precisions
        }
        return replace(getattr(manifest.towers, tower), artifacts=artifacts)

    return replace(manifest, towers=Towers(**{tower: kept(tower) for tower in manifest.tower_names}))  # type: ignore[arg-type]


def _is_whole(folder: Path, record: FileRecord) -> bool:
    """Whether an earlier attempt has fetched the file; one with other bytes is removed."""
    try:
        verify_file(folder, record)
    except ArtifactCorrupt:
        (folder / record.path).unlink(missing_ok=True)
        return False
    return True


def _check_disk(order: Order, missing: Collection[FileRecord], folder: Path) -> None:
    needed = sum(record.size - min(record.size, _started(record, folder)) for record in missing) + SPARE
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PullError(
            f"{order.target.parent}: {order.source.name} needs {needed / 1e6:.0f} MB more, {free / 1e6:.0f} MB are free"
        )


def _unfinished(record: FileRecord, folder: Path) -> Path:
    """The file while it grows. Its name is its content's, so that the bytes of two versions are never joined."""
    return folder / _UNFINISHED / record.sha256[:32]


def _started(record: FileRecord, folder: Path) -> int:
    """Bytes of the file that are here."""
    path = _unfinished(record, folder)
    return path.stat().st_size if path.exists() else 0


def _fetch(source: Source, record: FileRecord, folder: Path) -> None:
    unfinished, path = _unfinished(record, folder), folder / record.path
    unfinished.parent.mkdir(exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    _attempt(source, record, unfinished)
    unfinished.rename(path)
    try:
        verify_file(folder, record)
    except ArtifactCorrupt as error:
        path.unlink(missing_ok=True)
        what = "sha256 differs" if "sha256" in str(error) else "size differs"
        raise PullError(
            f"{source.name}: {record.path}: its {what} from {MANIFEST}; its owner must repair it"
        ) from error


def _attempt(source: Source, record: FileRecord, to: Path) -> None:
    for _ in range(ATTEMPTS - 1):
        try:
            source.fetch(record, to)
        except ConnectionBroken:
            time.sleep(_PAUSE_S)
        else:
            return
    source.fetch(record, to)


def _remove_strangers(folder: Path, manifest: Manifest) -> None:
    """What the downloads left behind, and files of a manifest that has changed since an earlier attempt."""
    kept = {folder / MANIFEST, *(folder / record.path for record in manifest.files())}
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
