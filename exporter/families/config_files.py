"""The files that say what a checkpoint is: `config.json`, or another library's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.text.layout import read_layout

OPEN_CLIP = "open_clip_config.json"


def read_configs(source: str) -> list[dict[str, Any]]:
    """What describes the checkpoint, `config.json` first; another library's is told by its `model_type`.

    Raises ExportError when there is nothing.
    """
    described, problem = [], "no config.json"
    try:
        described = [config] if (config := _config_json(source)) else []
    except Exception as error:  # noqa: BLE001 - damaged files make transformers raise any type
        problem = str(error).strip().partition("\n")[0]
    if (open_clip := read_json(source, OPEN_CLIP)) is not None:
        described.append({"model_type": "open_clip", **open_clip})
    if not described and Path(source, "modules.json").is_file():
        read_layout(source)  # refuses a first module that is no Transformer by its name
    if not described:
        raise ExportError(f"{source}: not a checkpoint directory or a reachable hub id ({problem})")
    return described


def read_json(source: str, name: str) -> dict[str, Any] | None:
    """A file of a local directory or a hub repository; None when there is no such file. Raises ExportError."""
    from transformers.utils import cached_file

    try:
        path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such repository, no network, or no name of one; so it was for `config.json`
        return None
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{source}: {name} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ExportError(f"{source}: {name} holds no object")
    return content


def _config_json(source: str) -> dict[str, Any]:
    from transformers import PretrainedConfig

    config: dict[str, Any] = PretrainedConfig.get_config_dict(source)[0]
    return config
