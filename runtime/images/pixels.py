"""Image -> row of pixels: the serving contract, and the calibration rows' too. Pure.

The reference is transformers' image processor of the checkpoint: resized by the checkpoint's own filter, in 8 bits.
A server of texts alone never imports this module, nor Pillow.
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
    """Any mode and size -> a row of bytes: `pixel_values` uint8 (3, size, size), or `patches` and their `grid`.

    `box`: the part of `image`, as stored, that is picture. A JPEG decoded at a fraction of its size ends somewhere
    within its last column and row; resized with all of them, the picture would be shifted.

    Bytes, not floats: `(x / 255 - mean) / std` is part of the graph, so a row is a quarter of the size.
    """
    fitted = np.asarray(_fitted(image, spec, box))
    if isinstance(spec.geometry, Patches):
        patches, grid = cut(fitted, spec.geometry.patch_size)
        return Row({PATCHES: patches, GRID: grid}, cost=len(patches))
    pixels = np.ascontiguousarray(fitted.transpose(2, 0, 1))
    return Row({PIXEL_VALUES: pixels}, cost=spec.geometry.most_patches)


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright 8-bit RGB: EXIF orientation applied, alpha over white, 16-bit scaled, all other modes converted."""
    return rgb(upright(image))


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says."""
    # Pillow copies what it need not change: 2000 x 1500 pixels twice took 22 ms of CPU time.
    return ImageOps.exif_transpose(image) if _orientation(image) != 1 else image


def _fitted(image: Image.Image, spec: VisionTower, box: Box | None) -> Image.Image:
    """Upright RGB at the size that the tower takes."""
    width, height = size_for(_upright_size(image, box), spec.geometry)
    if box is None:
        shown = resized(to_rgb(image), (width, height), spec.resample)
    else:  # a box lies in the file's own directions: the picture in it is resized before it is turned
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
