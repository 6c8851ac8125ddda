"""Families of checkpoints: one module or folder per family, the only code that knows an architecture."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.config_files import read_configs
from siglip_edge.exporter.families.family import Family
from siglip_edge.exporter.families.onnx_text.published_graph import KNOWN_AS, prefers_graph


def families() -> list[Family[Any]]:
    """The `FAMILY` of every module in this folder."""
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [module.FAMILY for module in modules if hasattr(module, "FAMILY")]


def family_of(source: str, *, from_onnx: bool = False) -> Family[Any]:
    """The family that knows the checkpoint. Raises ExportError that names the model type and the known families.

    `from_onnx`: read its ONNX graph, even where its weights could be read.
    """
    _check_path(source)
    by_graph = from_onnx or prefers_graph(source)
    configs, known = [{"model_type": KNOWN_AS}] if by_graph else read_configs(source), families()
    for config in configs:
        for family in known:
            if family.knows(config):
                return family
    model_type = str(configs[0].get("model_type"))
    refusals = [family.refusals[model_type] for family in known if model_type in family.refusals]
    hint = "".join(f" ({refusal})" for refusal in refusals)
    names = ", ".join(dict.fromkeys(family.name for family in known))
    raise ExportError(
        f"{source}: no family of checkpoints knows model type {model_type!r}; known: {names}{hint}; "
        "docs/export.md lists what is exported"
    )


def _check_path(source: str) -> None:
    """Raise ExportError for a path, and no hub id, that leads nowhere: no hub is asked for it."""
    is_path = source in {".", "..", "~"} or source.startswith(("/", "./", "../", "~/"))
    if is_path and not Path(source).is_dir():
        raise ExportError(f"{source}: {'not a directory' if Path(source).exists() else 'no such directory'}")
