"""A decoded picture, with what its file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from siglip_edge.runtime.images.containers.contents import SampleRange
from siglip_edge.runtime.images.orientation import UPRIGHT, orientation_of

Box = tuple[float, float, float, float]
"""Left, upper, right, lower, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    image: Image.Image
    """As it is stored: not yet turned upright, in any mode of Pillow."""
    box: Box | None = None
    """The part of `image` that holds the picture; None: all of it.

    A JPEG that was decoded at a fraction of its size ends inside its last column and row; resizing whole columns and
    rows would shift the picture.
    """
    orientation: int = UPRIGHT
    """As EXIF counts, from 1 to 8."""
    profile: bytes | None = None
    """The embedded ICC profile."""
    samples: SampleRange | None = None
    """The samples that are black and white, where they are not those of 8 bits; None: by the mode."""
    signed: bool = False

    @classmethod
    def of(cls, picture: Image.Image | Picture) -> Picture:
        """An image that Pillow opened or that a program made, with the orientation and profile that it carries."""
        if isinstance(picture, Picture):
            return picture
        info = picture.info
        profile = _bytes(info.get("icc_profile"))
        return cls(image=picture, orientation=_orientation(picture, info), profile=profile)


def _orientation(image: Image.Image, info: dict[str | tuple[int, int], Any]) -> int:
    if image.format == "TIFF":
        return UPRIGHT  # Pillow turns these itself
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return orientation_of(_bytes(info.get("exif")), xmp.encode() if isinstance(xmp, str) else _bytes(xmp))


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None
