"""Colour profiles: from an embedded ICC profile to sRGB, by LittleCMS, which Pillow carries.

A profile that is broken, or that describes another kind of picture, counts for nothing: the pixels decide.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from functools import cache
from types import MappingProxyType

import numpy as np
from blake3 import blake3
from PIL import Image, ImageCms

Transform = ImageCms.ImageCmsTransform

_KEPT = 8
"""Transforms that are kept, of the profiles that came last. One of a printing press takes two megabytes."""
_NO_DIFFERENCE = 2
"""Of 255. A profile that moves no colour of the cube below by more is sRGB under whatever name."""
_CUBE = (np.indices((18, 18, 18)).reshape(3, 1, -1).transpose(1, 2, 0) * 15).astype(np.uint8)
_MODES = MappingProxyType({"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"})
"""Colour space of a profile -> the mode of Pillow that it describes."""


class _Kept:
    """The transforms of the last profiles, by the digests of the profiles, which may have megabytes."""

    def __init__(self) -> None:
        self._transforms: OrderedDict[bytes, Transform | None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, profile: bytes) -> Transform | None:
        key = blake3(profile).digest()
        with self._lock:
            if key not in self._transforms:
                self._transforms[key] = _made(profile)
                if len(self._transforms) > _KEPT:
                    self._transforms.popitem(last=False)
            self._transforms.move_to_end(key)
            return self._transforms[key]


_kept = _Kept()


def to_srgb(profile: bytes | None, mode: str) -> Transform | None:
    """The transform of pictures of `mode` (L, RGB or CMYK) to sRGB; None: nothing is to be done.

    Nothing is to be done for sRGB itself, whatever its name, and for a profile that cannot be used. Threads share a
    transform: LittleCMS copies the only state of one, the colour seen last, for each call.
    """
    transform = _kept.of(profile) if profile else None
    describes = transform is not None and (transform.input_mode == mode or (transform.input_mode, mode) == ("RGB", "L"))
    return transform if describes else None


def converted(image: Image.Image, transform: Transform) -> Image.Image:
    """8-bit grey, RGB or CMYK -> 8-bit RGB in sRGB."""
    return transform.apply(image if image.mode == transform.input_mode else image.convert(transform.input_mode))


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* as TIFF stores it, whose white is that of D50 -> sRGB."""
    return _lab().apply(image)


def _made(profile: bytes) -> Transform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space.strip()]
        # Perceptual is the intent for pictures, and the default of Pillow and of browsers.
        transform = Transform(source, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (OSError, ValueError, KeyError, ImageCms.PyCMSError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: Transform) -> bool:
    moved = np.asarray(transform.apply(Image.fromarray(_CUBE))).astype(int) - _CUBE
    return int(np.abs(moved).max()) <= _NO_DIFFERENCE


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _lab() -> Transform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return Transform(lab, _srgb(), "LAB", "RGB", ImageCms.Intent.PERCEPTUAL)
