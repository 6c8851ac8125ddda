"""Any mode of a Pillow image -> 8 bits per sample, without transparency. Pure.

A large picture is converted in bands, so that its conversion takes no more memory than the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import ColorProfiles
from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.images.containers.contents import SampleRange
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.images.profiles import converted, lab_to_srgb, to_srgb

Convert = Callable[[Image.Image], Image.Image]

BAND_PIXELS = 1 << 20
_WHITE = (255, 255, 255, 255)
_SIXTEEN_BITS = SampleRange(black=0, white=0xFFFF)
_INK = frozenset({"L", "CMYK"})
"""Modes that a colour profile is applied to as they are."""


def rgb(picture: Picture, profiles: ColorProfiles = ColorProfiles.IGNORED) -> Image.Image:
    """Any mode -> 8-bit RGB: alpha is blended over white, deep samples are scaled, Pillow converts other modes.

    `profiles`: whether the embedded colour profile decides what RGB means. Raises UnsupportedInput for samples whose
    black and white the file does not name.
    """
    flat = flattened(picture)
    if profiles is ColorProfiles.TO_SRGB and (transform := to_srgb(picture.profile, flat.mode)) is not None:
        return _in_bands(flat, "RGB", partial(converted, transform=transform))
    return flat if flat.mode == "RGB" else _in_bands(flat, "RGB", lambda band: band.convert("RGB"))


def flattened(picture: Picture) -> Image.Image:
    """As `rgb`, but grey stays one sample and print stays CMYK: the forms that a colour profile describes."""
    image = picture.image
    # Signed bytes without a range are read as Pillow, and so the reference, reads them: as unsigned.
    signed_bytes = image.mode == "L" and picture.signed and picture.samples is not None
    if image.mode in {"I", "F"} or image.mode.startswith("I;16") or signed_bytes:
        return _in_bands(image, "L", _scaling(picture))
    if image.has_transparency_data:
        return _in_bands(image, "RGB", _over_white)
    if image.mode == "LAB":
        return _in_bands(image, "RGB", lab_to_srgb)
    if image.mode == "RGB" or image.mode in _INK:
        return image
    return _in_bands(image, "L" if image.mode == "1" else "RGB", _plain)


def _in_bands(image: Image.Image, mode: str, convert: Convert) -> Image.Image:
    if image.width * image.height <= BAND_PIXELS:
        return convert(image)
    whole = Image.new(mode, image.size)
    for top, bottom in _bands(image):
        whole.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, min(top + rows, image.height)


def _plain(band: Image.Image) -> Image.Image:
    return band.convert("L" if band.mode == "1" else "RGB")


def _over_white(band: Image.Image) -> Image.Image:
    rgba = band.convert("LA" if band.mode == "La" else "RGBA").convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")


def _scaling(picture: Picture) -> Convert:
    """Samples of more than 8 bits -> the conversion of a band to 8-bit grey."""
    image = picture.image
    deep = image.mode.startswith("I;16")
    samples = picture.samples or (_SIXTEEN_BITS if deep else None)
    if samples is None:
        raise UnsupportedInput(
            "the file does not say which samples are black and white (SMinSampleValue and SMaxSampleValue of TIFF): "
            "32-bit, signed and floating-point samples have no brightness of their own; send 8- or 16-bit pixels"
        )
    clear = image.info.get("transparency") if deep else None

    def to_grey(band: Image.Image) -> Image.Image:
        values = np.asarray(band)
        grey = _to_8_bits(_as_signed(values, signed=picture.signed), samples)
        if isinstance(clear, int):
            grey[values == clear] = 255  # on white
        return Image.fromarray(grey)

    return to_grey


def _as_signed(values: NDArray[np.generic], *, signed: bool) -> NDArray[np.generic]:
    """Pillow reads 32 bits as signed samples and 8 bits as unsigned ones, whatever the file says."""
    if values.dtype == np.int32 and not signed:
        return values.view(np.uint32)
    return values.view(np.int8) if values.dtype == np.uint8 else values


def _to_8_bits(values: NDArray[np.generic], samples: SampleRange) -> NDArray[np.uint8]:
    if samples == _SIXTEEN_BITS:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    scale = 255.0 / (samples.white - samples.black)
    scaled = (values.astype(np.float64) - samples.black) * scale
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)
