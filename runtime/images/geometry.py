"""An RGB image, resized, cropped or cut into patches as a vision tower expects it. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Geometry, Patches, ShortestSideCrop, Squash
from siglip_edge.runtime.images.picture import Box


def decoded_side(geometry: Geometry) -> int:
    """Pixels that the shortest side of a decoded image needs, so that the row loses no detail."""
    if isinstance(geometry, Squash):
        return geometry.size
    if isinstance(geometry, ShortestSideCrop):
        return geometry.shortest_side
    return geometry.most_patches * geometry.patch_size  # for the extreme image, a strip as wide as one patch


def decoded_size(image_size: tuple[int, int], geometry: Geometry, max_patches: int | None = None) -> tuple[int, int]:
    """(width, height) that an image of that size needs when it is decoded, so that the row loses no detail."""
    if isinstance(geometry, Patches):
        return size_for(image_size, geometry, max_patches)
    return (decoded_side(geometry),) * 2


def resized(image: Image.Image, size: tuple[int, int], resample: str, box: Box | None = None) -> Image.Image:
    """The part of `image` in `box`, or all of it, resized to (width, height) by the Pillow filter `resample`."""
    return image.resize(size, Image.Resampling[resample.upper()], box)


def size_for(image_size: tuple[float, float], geometry: Geometry, max_patches: int | None = None) -> tuple[int, int]:
    """(width, height) of an upright image -> (width, height) to resize it to.

    `max_patches`: most patches of the image, where the geometry has a choice; None: the geometry's own number.
    """
    if isinstance(geometry, Squash):
        return geometry.size, geometry.size
    if isinstance(geometry, ShortestSideCrop):
        return _shortest_side(image_size, geometry.shortest_side)
    return _within_patches(image_size, geometry.patch_size, max_patches or geometry.default_patches)


def centre_crop(image: Image.Image, geometry: ShortestSideCrop) -> Image.Image:
    """The square in the centre, its offset rounded as `geometry` says."""
    left, upper = _crop_corner(image.size, geometry)
    return image.crop((left, upper, left + geometry.size, upper + geometry.size))


def box_of_crop(image_size: tuple[int, int], size: tuple[int, int], geometry: ShortestSideCrop) -> Box:
    """The part of an image of `image_size` that `centre_crop` would keep if the image were resized to `size`.

    Resizing this part alone gives the same pixels to rounding. Pillow may resize the height before the width for one
    and after it for the other, and it rounds and clips to bytes in between.
    """
    x, y = (before / after for before, after in zip(image_size, size, strict=True))
    left, upper = _crop_corner(size, geometry)
    right, lower = left + geometry.size, upper + geometry.size
    return left * x, upper * y, min(right * x, image_size[0]), min(lower * y, image_size[1])


def _crop_corner(size: tuple[int, int], geometry: ShortestSideCrop) -> tuple[int, int]:
    across, down = ((side - geometry.size) / 2 for side in size)
    return (round(across), round(down)) if geometry.rounds_half_to_even else (int(across), int(down))


def cut(pixels: NDArray[np.uint8], patch_size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(h, w, 3) of whole patches -> patches (rows * columns, 3 * p * p), channels last, and grid (rows, columns)."""
    rows, columns = pixels.shape[0] // patch_size, pixels.shape[1] // patch_size
    parts = pixels.reshape(rows, patch_size, columns, patch_size, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(parts.reshape(rows * columns, -1)), np.array([rows, columns], np.int64)


def _shortest_side(size: tuple[float, float], shortest: int) -> tuple[int, int]:
    """(width, height) as transformers' get_resize_output_image_size gives it: the longer side is rounded down."""
    width, height = size
    if width <= height:
        return shortest, max(shortest, int(shortest * height / width))
    return max(shortest, int(shortest * width / height)), shortest


def _within_patches(size: tuple[float, float], patch_size: int, most: int) -> tuple[int, int]:
    """(width, height) -> the largest size of at most `most` whole patches that nearly keeps the aspect ratio.

    The search is the same as in transformers' Siglip2ImageProcessor: binary, with each side rounded up to patches.
    """
    width, height = size

    def scaled(scale: float, side: float) -> int:
        return max(patch_size, math.ceil(side * scale / patch_size) * patch_size)

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        scale = (low + high) / 2
        patches = (scaled(scale, height) / patch_size) * (scaled(scale, width) / patch_size)
        low, high = (scale, high) if patches <= most else (low, scale)
    return scaled(low, width), scaled(low, height)
