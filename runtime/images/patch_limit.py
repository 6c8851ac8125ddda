"""The most patches of an image: the caller's choice between speed and detail. Pure, and without Pillow."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Manifest, Patches
from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput

MAX_PATCHES = "max_patches"
"""The request field, for errors."""


def patch_limit(manifest: Manifest, max_patches: int | None) -> int | None:
    """The most patches of an image: `max_patches`, or the model's own number. None: the model has no choice.

    Raises UnsupportedInput for a number that is asked of a model without a choice, InvalidInput for a number that the
    model does not take.
    """
    geometry = manifest.towers.vision.geometry if manifest.towers.vision else None
    if not isinstance(geometry, Patches):
        if max_patches is None:
            return None
        message = f"{manifest.name} is no NaFlex model: it has no choice of patches, so it takes no max_patches"
        raise UnsupportedInput(message, param=MAX_PATCHES)
    if max_patches is None:
        return geometry.default_patches
    if not 1 <= max_patches <= geometry.most_patches:
        message = f"max_patches is {max_patches}; {manifest.name} takes 1 to {geometry.most_patches} patches per image"
        raise InvalidInput(message, param=MAX_PATCHES, code="invalid_value")
    return max_patches
