"""Image -> row of pixels, for serving and for calibration alike. Pure.

The reference is the checkpoint's image processor in transformers, which resizes in 8 bits with the checkpoint's filter.
A server without a vision tower imports neither this module nor Pillow.
"""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageOps

from siglip_edge.runtime.artifacts.manifest import Patches, ShortestSideCrop, VisionTower
from siglip_edge.runtime.images.color import rgb
from siglip_edge.runtime.images.geometry import Box, centre_crop, cut, resized, size_for
from siglip_edge.runtime.rows import Row

PIXEL_VALUES, PATCHES, GRID = "pixel_values", "patches", "grid"

_TURNED_SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that exchange width and height."""


def image_row(image: Image.Image, spec: VisionTower, box: Box | None = None) -> Row:
    """An image of any mode and size -> a row of bytes.

    The row holds `pixel_values` uint8 (3, size, size), or `patches` uint8 (patches, 3 * p * p) and `grid` int64 (2,).
    Bytes, not floats: the graph itself computes `(x / 255 - mean) / std`, so a row takes a quarter of the memory.

    `box`: the part of the stored `image` that holds the picture. A JPEG that was decoded at a fraction of its size ends
    inside its last column and row; resizing whole columns and rows would shift the picture.
    Raises UnsupportedInput for floating-point samples.
    """
    fitted = np.asarray(_fitted(image, spec, box))
    if isinstance(spec.geometry, Patches):
        patches, grid = cut(fitted, spec.geometry.patch_size)
        return Row({PATCHES: patches, GRID: grid}, cost=len(patches))
    pixels = np.ascontiguousarray(fitted.transpose(2, 0, 1))
    return Row({PIXEL_VALUES: pixels}, cost=spec.geometry.most_patches)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image -> upright 8-bit RGB; `color.rgb` says how each mode is converted."""
    return rgb(upright(image))


def upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation says."""
    # exif_transpose copies even an upright image, so an upright image does not pass through it.
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _fitted(image: Image.Image, spec: VisionTower, box: Box | None) -> Image.Image:
    """Upright RGB in the size that the tower takes."""
    width, height = size_for(_upright_size(image, box), spec.geometry)
    if box is None:
        shown = resized(to_rgb(image), (width, height), spec.resample)
    else:  # `box` has the directions of the stored image, so the image is resized before it is turned
        stored = (height, width) if _orientation(image) in _TURNED_SIDEWAYS else (width, height)
        shown = upright(resized(rgb(image), stored, spec.resample, box))
    return centre_crop(shown, spec.geometry) if isinstance(spec.geometry, ShortestSideCrop) else shown


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _upright_size(image: Image.Image, box: Box | None) -> tuple[float, float]:
    """(width, height) of the picture when it is upright."""
    left, upper, right, lower = box or (0, 0, *image.size)
    width, height = right - left, lower - upper
    return (height, width) if _orientation(image) in _TURNED_SIDEWAYS else (width, height)
