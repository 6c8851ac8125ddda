"""Image bytes -> Pillow images, within limits that hold before a pixel is expanded.

Imported with the first image: a server of texts alone never loads Pillow.
"""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from PIL import Image, features

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage
from siglip_edge.runtime.images.geometry import Box
from siglip_edge.server.inputs.image_bytes import ImageLimits

Image.MAX_IMAGE_PIXELS = None  # Pillow only warns at its own limit; ours is checked from the header, always

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)
"""An explicit list: every other Pillow plugin stays out of reach of what strangers send."""

SCALING_MARGIN = 2.5
"""A scaled JPEG keeps at least this many pixels a target pixel and side.

Least cosine to the exact path on 25 photographs resized to just this margin, demo model: 0.9991 in INT8 (whose own
rounding takes as much), 0.9997 in FP16; with a margin of 2, 0.9984 and 0.9992 (`bench.scaling`). Twelve megapixels
become a row of 256 pixels in 62 ms of CPU time instead of 156; at 1/8, below the margin, it would be 48.
"""


class Decoded(NamedTuple):
    """What `runtime.images.pixels.pixels` takes."""

    image: Image.Image
    box: Box | None
    """None: all of it."""


def decode(data: bytes, limits: ImageLimits, *, target: int | None = None) -> Decoded:
    """The first frame, pixels loaded. Raises UndecodableImage or ImageTooLarge.

    `target`: the side it will be squashed to; a JPEG much larger than that is decoded at 1/2, 1/4 or 1/8 of its size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_pixels(image, limits)
        box = None if target is None else _draft(image, math.ceil(SCALING_MARGIN * target))
        image.load()
        image.getexif()  # parsed here, where a hostile block is the image's fault
    except ImageTooLarge:
        raise
    except Exception:  # noqa: BLE001 - Pillow's plugins raise a dozen unrelated types on hostile bytes
        known = ", ".join(FORMATS)
        raise UndecodableImage(f"the image cannot be decoded: damaged, cut short, or not one of {known}") from None
    return Decoded(image, box)


def _draft(image: Image.Image, least: int) -> Box | None:
    """Have it decoded at the smallest fraction that leaves `least` pixels a side. -> the picture's box in that."""
    full = image.size
    drafted = image.draft(None, (least, least))  # only JPEG's plugin knows how
    return drafted[1] if drafted and image.size != full else None


def _check_pixels(image: Image.Image, limits: ImageLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {image.width} x {image.height} pixels; at most {limits.max_pixels} are accepted"
        )
