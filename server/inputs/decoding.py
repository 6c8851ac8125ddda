"""Image bytes -> Pillow images. Limits are checked before any pixel is decoded.

Imported with the first image: a server that gets only texts never loads Pillow.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from PIL import Image, features

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage
from siglip_edge.runtime.images.geometry import Box
from siglip_edge.server.inputs.image_bytes import ImageLimits

Image.MAX_IMAGE_PIXELS = None  # Pillow only warns at its own limit; `_check_pixels` enforces MAX_IMAGE_PIXELS

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)
"""The accepted formats. Files from strangers never reach another plugin of Pillow."""

SCALING_MARGIN = 2.5
"""A JPEG that is decoded at a fraction of its size keeps at least this many pixels per target pixel, along each side.

The least cosine to the exact path is 0.9997 in FP16 with this margin, and 0.9992 with a margin of 2
(docs/decisions/large-jpeg-at-a-fraction.md).
"""


class Decoded(NamedTuple):
    """The arguments of `runtime.images.pixels.pixels`."""

    image: Image.Image
    box: Box | None
    """The part of `image` that holds the picture: (left, top, right, bottom) in pixels. None: all of it."""


def decode(data: bytes, limits: ImageLimits, *, target: int | None = None) -> Decoded:
    """Decode the first frame. Raises UndecodableImage or ImageTooLarge.

    `target`: side in pixels that the image will be squashed to. A much larger JPEG is decoded at 1/2, 1/4 or 1/8 of its
    size. None: every image is decoded in full.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_pixels(image, limits)
        box = None if target is None else _draft(image, math.ceil(SCALING_MARGIN * target))
        image.load()
        image.getexif()  # parsed here, so that a hostile block is reported as an error of the image
    except ImageTooLarge:
        raise
    except Exception:  # noqa: BLE001 - Pillow's plugins raise a dozen unrelated types on hostile bytes
        known = ", ".join(FORMATS)
        raise UndecodableImage(f"the image cannot be decoded: damaged, cut short, or not one of {known}") from None
    return Decoded(image, box)


def _draft(image: Image.Image, least: int) -> Box | None:
    """Choose the smallest fraction that leaves `least` pixels per side. -> the picture's box; None: in full."""
    full = image.size
    drafted = image.draft(None, (least, least))  # Pillow does nothing here for other formats than JPEG
    return drafted[1] if drafted and image.size != full else None


def _check_pixels(image: Image.Image, limits: ImageLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {image.width} x {image.height} pixels; at most {limits.max_pixels} are accepted; "
            "send it smaller"
        )
