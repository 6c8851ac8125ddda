"""Picture -> row of pixels, for serving and for calibration alike. Pure.

The reference is the checkpoint's image processor in transformers, which resizes in 8 bits with the checkpoint's filter.
A server without a vision tower imports neither this module nor Pillow.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Patches, ShortestSideCrop, VisionTower
from siglip_edge.runtime.images.color import rgb
from siglip_edge.runtime.images.geometry import box_of_crop, centre_crop, cut, resized, size_for
from siglip_edge.runtime.images.orientation import SIDEWAYS, upright
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.rows import Row

PIXEL_VALUES, PATCHES, GRID = "pixel_values", "patches", "grid"

STRIP = 16
"""Aspect ratio beyond which only the part that the crop keeps is resized. The memory of the whole grows with the ratio:
2 GB for a strip of 100 000 x 10 pixels."""


def image_row(image: Image.Image | Picture, spec: VisionTower, max_patches: int | None = None) -> Row:
    """A picture of any mode and size -> a row of bytes.

    `max_patches`: most patches of this picture, where the tower has a choice; None: the tower's own number.

    The row holds `pixel_values` uint8 (3, size, size), or `patches` uint8 (patches, 3 * p * p) and `grid` int64 (2,).
    Bytes, not floats: the graph itself computes `(x / 255 - mean) / std`, so a row takes a quarter of the memory.
    Raises UnsupportedInput for samples without a defined brightness.
    """
    fitted = np.asarray(_fitted(Picture.of(image), spec, max_patches))
    if isinstance(spec.geometry, Patches):
        patches, grid = cut(fitted, spec.geometry.patch_size)
        return Row({PATCHES: patches, GRID: grid}, cost=len(patches))
    pixels = np.ascontiguousarray(fitted.transpose(2, 0, 1))
    return Row({PIXEL_VALUES: pixels}, cost=spec.geometry.most_patches)


def to_rgb(image: Image.Image | Picture) -> Image.Image:
    """Any picture -> upright 8-bit RGB; `color.rgb` says how each mode is converted."""
    picture = Picture.of(image)
    return upright(rgb(picture), picture.orientation)


def _fitted(picture: Picture, spec: VisionTower, max_patches: int | None) -> Image.Image:
    """Upright RGB in the size that the tower takes."""
    image, geometry = rgb(picture, spec.color_profiles), spec.geometry
    size = size_for(_upright_size(picture), geometry, max_patches)
    if picture.box is None:
        turned = upright(image, picture.orientation)
        if isinstance(geometry, ShortestSideCrop) and max(size) > STRIP * min(size):
            box = box_of_crop(turned.size, size, geometry)
            return resized(turned, (geometry.size, geometry.size), spec.resample, box)
        shown = resized(turned, size, spec.resample)
    else:  # `box` has the directions of the stored image, so the image is resized before it is turned
        stored = size[::-1] if picture.orientation in SIDEWAYS else size
        shown = upright(resized(image, stored, spec.resample, picture.box), picture.orientation)
    return centre_crop(shown, geometry) if isinstance(geometry, ShortestSideCrop) else shown


def _upright_size(picture: Picture) -> tuple[float, float]:
    """(width, height) of the picture when it is upright."""
    left, upper, right, lower = picture.box or (0, 0, *picture.image.size)
    width, height = right - left, lower - upper
    return (height, width) if picture.orientation in SIDEWAYS else (width, height)
