"""Colour profiles: from an embedded ICC profile to sRGB, by LittleCMS, which Pillow carries."""

from __future__ import annotations

import io
from functools import cache, lru_cache
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageCms

_KEPT = 8
"""Transforms that are kept, of the profiles that came last. One of a printing press takes two megabytes."""
_NO_DIFFERENCE = 2
"""Of 255. A profile that moves no colour of the cube below by more is sRGB under whatever name."""
_CUBE = (np.indices((18, 18, 18)).reshape(3, 1, -1).transpose(1, 2, 0) * 15).astype(np.uint8)
_MODES = MappingProxyType({"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"})
"""Colour space of a profile -> the mode of Pillow that it describes."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """8-bit grey, RGB or CMYK -> 8-bit RGB in sRGB.

    A profile that is broken, or that describes another kind of picture, counts for nothing: the pixels decide.
    """
    transform = _transform(profile) if profile else None
    if transform is not None and image.mode == "L" and transform.input_mode == "RGB":
        image = image.convert("RGB")
    if transform is None or image.mode != transform.input_mode:
        return image if image.mode == "RGB" else image.convert("RGB")
    return transform.apply(image)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* as TIFF stores it, whose white is that of D50 -> sRGB."""
    return _lab().apply(image)


@lru_cache(_KEPT)
def _transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """-> the transform to sRGB; None for sRGB itself and for a profile that LittleCMS cannot use.

    LittleCMS lets threads share a transform: each call has its own copy of the only state, the colour seen last.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space.strip()]
        # Perceptual is the intent for pictures, and the default of Pillow and of browsers.
        transform = ImageCms.ImageCmsTransform(source, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (OSError, ValueError, KeyError, ImageCms.PyCMSError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    moved = np.asarray(transform.apply(Image.fromarray(_CUBE))).astype(int) - _CUBE
    return int(np.abs(moved).max()) <= _NO_DIFFERENCE


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.ImageCmsTransform(lab, _srgb(), "LAB", "RGB", ImageCms.Intent.PERCEPTUAL)
