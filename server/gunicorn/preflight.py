"""Checks before a start, so that a server that cannot start says why in one sentence, before it starts a worker."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from siglip_edge.runtime.artifacts.manifest import MANIFEST, Manifest
from siglip_edge.runtime.errors import ModelError
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.listed_models import ListedModel, wrong_aliases
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid


class CannotStart(Exception):
    """`str(error)` is one sentence with the reason and the remedy."""


def checked_settings() -> Settings:
    """The settings of the environment, with readable models and the keys of API_KEYS_FILE. Raises CannotStart."""
    try:
        settings = read_settings()
        settings = replace(settings, api_keys=settings.keys, api_keys_file=None)
    except SettingsInvalid as error:
        raise CannotStart(str(error)) from None
    _check_image_root(settings)
    _check_runtime()
    models = settings.listed_models
    for model in models:
        _check_model(model)
    for sentence in wrong_aliases(dict(settings.aliases), [model.name for model in models]):
        raise CannotStart(sentence)
    return settings


def _check_image_root(settings: Settings) -> None:
    root = settings.image_root
    if root is not None and not root.is_dir():  # a volume that is not mounted, for example
        raise CannotStart(f"IMAGE_ROOT={root} is no directory; allowed: a directory with image files")


def _check_runtime() -> None:
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:  # a folder that an uninstalled wheel left behind has no origin
        raise CannotStart("onnxruntime is not installed; pip install 'siglip-edge[cpu]' (or [cuda], or [openvino])")


def _check_model(model: ListedModel) -> None:
    if not (model.directory / MANIFEST).is_file():
        raise CannotStart(f"there is no model at {model.places}; make one: {model.export_command}")
    try:
        manifest = Manifest.load(model.directory)
    except ModelError as error:
        raise CannotStart(str(error)) from None
    if model.family not in {None, manifest.family}:
        raise CannotStart(
            f"{model.source}: family is {model.family!r}, but {model.directory} is of {manifest.family!r}"
        )
