"""The most patches of an image: the caller's choice between speed and detail. Pure, and without Pillow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from siglip_edge.runtime.artifacts.manifest import Manifest, Patches
from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput

MAX_PATCHES = "max_patches"
"""The request field, for errors."""


def patch_limit(
    manifest: Manifest,
    max_patches: int | None,
    *,
    name: str | None = None,
    others: Callable[[], Sequence[str]] = tuple,
) -> int | None:
    """The most patches of an image: `max_patches`, or the model's own number. None: the model has no choice.

    `name`: the model's name for its user; None: that of the manifest. `others()`: names of models with the choice.

    Raises UnsupportedInput for a number that is asked of a model without a choice, InvalidInput for a number that the
    model does not take.
    """
    name = name or manifest.name
    geometry = manifest.towers.vision.geometry if manifest.towers.vision else None
    if not isinstance(geometry, Patches):
        if max_patches is None:
            return None
        raise UnsupportedInput(f"model {name} is no NaFlex model: {_remedy(others())}", param=MAX_PATCHES)
    if max_patches is None:
        return geometry.default_patches
    if not 1 <= max_patches <= geometry.most_patches:
        message = f"max_patches is {max_patches}; model {name} takes 1 to {geometry.most_patches} patches per image"
        raise InvalidInput(message, param=MAX_PATCHES, code="invalid_value")
    return max_patches


def _remedy(others: Sequence[str]) -> str:
    remedy = "leave max_patches out"
    return f"{remedy}, or name a model that has the choice as `model`: {', '.join(others)}" if others else remedy
