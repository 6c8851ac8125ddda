"""The models that the settings list: name, directory, other names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_edge.runtime.known_models.table import export_command, find, pull_command
from siglip_edge.server.config import parsing

if TYPE_CHECKING:
    from siglip_edge.server.config.settings import Settings

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BARE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class ListedModel:
    """A model to serve."""

    name: str
    asked: str
    """The path, name or hub id in the settings."""
    directory: Path
    models_dir: Path
    """Where a new model directory belongs."""
    aliases: tuple[str, ...] = ()
    """Further names in a request's `model`."""
    text_template: str | None = None
    """Sentence with {} in place of a text, which is put around every text that is embedded."""
    max_patches: int | None = None
    """Most patches per image of a NaFlex model; None: the checkpoint's own number."""
    family: str | None = None
    """The family that the catalogue names."""
    source: str = ""
    """The place in the catalogue, for errors."""

    @property
    def places(self) -> str:
        """Where it was looked for."""
        return " or ".join(dict.fromkeys([str(self.directory), self.asked]))

    @property
    def remedy(self) -> str:
        """What to run when there is no model directory: for a known checkpoint its own command."""
        known = find(self.asked) or find(self.name)
        folder, name = self.directory.parent, self.directory.name
        if known is not None and known.refused:
            return f"{known.id} cannot be exported: {known.refused}; `siglip-edge models` lists others"
        if known is not None:
            return f"make one: {export_command(known.id, folder, name)}"
        repository = self.asked if is_hub_id(self.asked) else "OWNER/NAME"
        exported = export_command(self.asked if is_hub_id(self.asked) else "CHECKPOINT", folder, name)
        pulled = pull_command(repository, folder, name)
        return f"make one: {exported}, or fetch one that is ready: {pulled}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of the catalogue."""

    name: str
    path: str
    """Directory, or hub id."""
    family: str | None = None
    text_template: str | None = None
    max_patches: int | None = None
    aliases: tuple[str, ...] = ()
    place: str
    """File and line, for errors."""


@dataclass(frozen=True)
class Catalogue:
    entries: tuple[Entry, ...] = ()
    notices: tuple[str, ...] = ()
    """Sentences about fields that have no effect."""


def list_models(settings: Settings) -> list[ListedModel]:
    """The models to serve, the default model first."""
    entries = {entry.name: entry for entry in settings.catalogue.entries}
    if settings.models:
        return [_listed(settings, name, path, entries.get(str(path))) for name, path in settings.models]
    if entries and not settings.model_is_set:
        return [_listed(settings, name, Path(entry.path), entry) for name, entry in entries.items()]
    entry = entries.get(str(settings.model))
    return [_listed(settings, entry.name if entry else parsing.model_name(settings.model), settings.model, entry)]


def _listed(settings: Settings, name: str, path: Path, entry: Entry | None) -> ListedModel:
    """`entry`: the model's entry in the catalogue."""
    asked = Path(entry.path) if entry else path
    own = ListedModel(
        name=name,
        asked=str(asked),
        directory=directory_of(asked, settings.models_dir, entry.name if entry else None),
        models_dir=settings.models_dir,
        aliases=(*(alias for alias, model in settings.aliases if model == name), *hub_names(str(asked))),
        text_template=settings.text_template,
        max_patches=settings.max_patches,
    )
    if entry is None:
        return own
    return replace(
        own,
        aliases=(*own.aliases, *entry.aliases),
        text_template=entry.text_template or own.text_template,
        max_patches=entry.max_patches or own.max_patches,
        family=entry.family,
        source=entry.place,
    )


def directory_of(asked: Path, models_dir: Path, name: str | None = None) -> Path:
    """Look for `asked` as a path, then below `models_dir`, where a hub id's directory has its last part as name.

    `name`: another name to look for there. -> where it is, or where it is expected.
    """
    below = [models_dir / part for part in (asked, asked.name, name) if part is not None]
    found = next((path for path in (asked, *below) if path.exists()), None)
    by_name = len(asked.parts) == 1 or is_hub_id(str(asked))
    return found or (models_dir / asked.name if by_name else asked)


def hub_names(source: str) -> tuple[str, ...]:
    """Names that follow from a checkpoint's hub id: the id, and its last part. Empty for any other checkpoint."""
    return (source, source.partition("/")[2]) if _HUB_ID.fullmatch(source) else ()


def is_bare_name(source: str) -> bool:
    """Whether it is a name without an owner: that of a local checkpoint's folder."""
    return bool(_BARE_NAME.fullmatch(source))


def is_hub_id(text: str) -> bool:
    """Whether it is a model's id on a hub, as google/siglip2-base-patch16-256, and no path whose parent exists here."""
    return bool(_HUB_ID.fullmatch(text)) and not Path(text).parent.exists()


def wrong_aliases(aliases: Mapping[str, str], names: Collection[str]) -> list[str]:
    """-> a sentence per alias that belongs to no served model, or that is a served model's own name."""
    pairs = aliases.items()
    missing = [f"ALIASES={alias}={name}: no model {name!r} is served" for alias, name in pairs if name not in names]
    own = [f"ALIASES={alias}={name}: {alias!r} is a model's own name" for alias, name in pairs if alias in names]
    return [f"{sentence}; served: {', '.join(names)}" for sentence in [*missing, *own]]
