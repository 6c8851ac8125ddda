"""Checks before a start, so that a server that cannot start says why in one sentence, before it starts a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from siglip_edge.runtime.artifacts.manifest import Manifest, Patches
from siglip_edge.runtime.errors import InvalidInput, ModelError
from siglip_edge.runtime.images.patch_limit import patch_limit
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.listed_models import ListedModel, wrong_aliases
from siglip_edge.server.config.missing_model import absence
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
    manifests = [_checked_manifest(model) for model in models]
    _check_max_patches(settings, models, manifests)
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


def _checked_manifest(model: ListedModel) -> Manifest:
    if sentence := absence(model):
        raise CannotStart(sentence)
    try:
        manifest = Manifest.load(model.directory)
    except ModelError as error:
        raise CannotStart(str(error)) from None
    if model.family not in {None, manifest.family}:
        raise CannotStart(
            f"{model.source}: family is {model.family!r}, but {model.directory} is of {manifest.family!r}"
        )
    return manifest


def _check_max_patches(settings: Settings, models: Sequence[ListedModel], manifests: Sequence[Manifest]) -> None:
    """A number of patches that no model takes, or that its model does not take, has no effect and stops the start."""
    have_choice = [_has_choice(manifest) for manifest in manifests]
    for model, manifest, has_choice in zip(models, manifests, have_choice, strict=True):
        of_server = model.max_patches == settings.max_patches
        if not has_choice and of_server:  # another model may have the choice
            continue
        try:
            patch_limit(manifest, model.max_patches, name=model.name)
        except InvalidInput as error:
            source = f"MAX_PATCHES={settings.max_patches}" if of_server else model.source
            raise CannotStart(f"{source}: {error}") from None
    if settings.max_patches is not None and not any(have_choice):
        names = ", ".join(model.name for model in models)
        raise CannotStart(f"MAX_PATCHES={settings.max_patches} has no effect: no NaFlex model is served ({names})")


def _has_choice(manifest: Manifest) -> bool:
    return manifest.towers.vision is not None and isinstance(manifest.towers.vision.geometry, Patches)
