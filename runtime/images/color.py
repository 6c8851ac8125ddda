"""Any mode of a Pillow image -> 8-bit RGB. Pure."""

from __future__ import annotations

import numpy as np
from PIL import Image

from siglip_edge.runtime.errors import UnsupportedInput

_WHITE = (255, 255, 255, 255)


def rgb(image: Image.Image) -> Image.Image:
    """Any mode -> 8-bit RGB: alpha is blended over white, 16-bit samples are scaled, Pillow converts other modes.

    ICC profiles are ignored, as in the reference processor. Raises UnsupportedInput for floating-point samples.
    """
    if image.mode == "F":
        raise UnsupportedInput("floating-point samples have no defined brightness; send 8- or 16-bit pixels")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _sixteen_to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255, so that most of an image would become white.
    samples = np.clip(np.asarray(image).astype(np.int64), 0, 0xFFFF)
    return Image.fromarray(((samples + 128) // 257).astype(np.uint8))
