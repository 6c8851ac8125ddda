"""Checks before a start, so that a server that cannot start says why in one sentence, before it starts a worker."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import MANIFEST, Manifest
from siglip_edge.runtime.errors import ModelError
from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment


class CannotStart(Exception):
    """`str(error)` is one sentence with the reason and the remedy."""


def checked_settings() -> Settings:
    """The settings of the environment, with readable models and the keys of API_KEYS_FILE. Raises CannotStart."""
    try:
        settings = Settings.from_env(read_environment())
        settings = replace(settings, api_keys=settings.keys, api_keys_file=None)
    except SettingsInvalid as error:
        raise CannotStart(str(error)) from None
    _check_runtime()
    for directory in settings.named_models.values():
        _check_model(directory)
    return settings


def _check_runtime() -> None:
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:  # a folder that an uninstalled wheel left behind has no origin
        raise CannotStart("onnxruntime is not installed; pip install 'siglip-edge[cpu]' (or [cuda], or [openvino])")


def _check_model(directory: Path) -> None:
    if not (directory / MANIFEST).is_file():
        raise CannotStart(
            f"there is no model at {directory}; make one: "
            f"siglip-edge export CHECKPOINT -o {directory.parent} --name {directory.name}"
        )
    try:
        Manifest.load(directory)
    except ModelError as error:
        raise CannotStart(str(error)) from None
