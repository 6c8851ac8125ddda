"""The sentence about a model directory that is not there: what is in its place, and the command that makes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_edge.runtime.artifacts.manifest import MANIFEST
from siglip_edge.runtime.known_models.table import export_command

if TYPE_CHECKING:
    from siglip_edge.server.config.listed_models import ListedModel

_CONFIG, _OPEN_CLIP = "config.json", "open_clip_config.json"
_CHECKPOINT = (_CONFIG, _OPEN_CLIP, "modules.json")
"""Files that say what a checkpoint is: of transformers, OpenCLIP and sentence-transformers."""


def absence(model: ListedModel) -> str | None:
    """Why there is no model at the place, and what to run; None when a manifest is there."""
    directory = model.directory
    if (directory / MANIFEST).is_file():
        return None
    if any((directory / name).is_file() for name in _CHECKPOINT):
        return f"{directory} is a checkpoint, not a model directory; make one: {_export(directory, model.models_dir)}"
    if directory.exists():  # an export there would be refused, because the place is taken
        elsewhere = export_command("CHECKPOINT", model.models_dir)
        return f"{directory} is no model directory: it has no {MANIFEST}; make one elsewhere: {elsewhere}"
    return f"there is no model at {model.places}; {model.remedy}"


def _export(checkpoint: Path, folder: Path) -> str:
    """The command for a checkpoint on the disk, whose own place the model directory must not have."""
    name = checkpoint.resolve().name
    taken = (folder / name).exists()
    return export_command(
        str(checkpoint), folder, f"{name}-quantized" if taken else None, has_images=_has_images(checkpoint)
    )


def _has_images(checkpoint: Path) -> bool:
    """Whether an export needs pictures. Of a file that cannot be read, the export says more."""
    if (checkpoint / _OPEN_CLIP).is_file():
        return True
    try:
        return "vision_config" in json.loads((checkpoint / _CONFIG).read_bytes())
    except (OSError, ValueError, TypeError):
        return False
