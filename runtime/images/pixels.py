"""Image -> pixels: the serving contract, and the calibration rows' too. Pure.

The reference is `transformers`' SiglipImageProcessor: squash with the checkpoint's own filter, in 8 bits. Imported by
what has images only: Pillow, which comes with it, is never loaded by a server of texts alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from siglip_edge.runtime.artifacts.manifest import ImageSpec
from siglip_edge.runtime.errors import UnsupportedInput

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, upper, right, lower, in pixels."""

_WHITE = (255, 255, 255, 255)


def pixels(image: Image.Image, spec: ImageSpec, box: Box | None = None) -> Pixels:
    """Squash to a square, whatever the shape: no crop. Any mode -> uint8 (3, size, size), channels first.

    `box`: what of `image`, as stored, is picture. A JPEG decoded at a fraction of its size ends somewhere within its
    last column and row; squashed with all of them, it would be shifted.

    Still bytes, not floats: `(x / 255 - mean) / std` is part of the graph, so a row is a quarter of the size.
    """
    side, resample = (spec.size, spec.size), Image.Resampling[spec.resample.upper()]
    # A box lies in the file's own directions: what is in it is squashed before it is turned.
    square = _upright(_rgb(image).resize(side, resample, box)) if box else to_rgb(image).resize(side, resample)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright 8-bit RGB: EXIF orientation applied, alpha over white, 16-bit scaled, all other modes converted."""
    return _rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    # Pillow copies what it need not change: 2000 x 1500 pixels twice took 22 ms of CPU time.
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UnsupportedInput("floating-point samples have no defined brightness; send 8- or 16-bit pixels")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _sixteen_to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 and turns almost everything white.
    samples = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF)
    return Image.fromarray(((samples + 128) // 257).astype(np.uint8))
