"""Bytes of an image file -> a decoded picture. Limits are checked before any pixel is decoded.

Imported with the first image: a server that gets only texts never loads Pillow.
"""

from __future__ import annotations

import importlib
import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType

from PIL import Image, ImageFile

from siglip_edge.runtime.artifacts.manifest import ColorProfiles
from siglip_edge.runtime.errors import ImageTooLarge, InvalidInput, UndecodableImage, UnsupportedInput
from siglip_edge.runtime.images.containers import av1, heif, jpeg, png, tiff, webp
from siglip_edge.runtime.images.containers.contents import Contents, whole_profile
from siglip_edge.runtime.images.formats import FORMATS, SNIFFED_BYTES, format_of
from siglip_edge.runtime.images.orientation import orientation_of
from siglip_edge.runtime.images.picture import Box, Picture
from siglip_edge.runtime.images.profiles import to_srgb
from siglip_edge.runtime.images.silence import silence_image_libraries

Image.MAX_IMAGE_PIXELS = None  # Pillow only warns at its own limit; `check_pixels` enforces MAX_IMAGE_PIXELS

SCALING_MARGIN = 2.5
"""A JPEG that is decoded at a fraction of its size keeps at least this many pixels per target pixel, along each side.

The least cosine to the exact path is 0.9997 in FP16 with this margin, and 0.9992 with a margin of 2
(docs/decisions/large-jpeg-at-a-fraction.md).
"""

Size = tuple[int, int]
Target = int | Callable[[Size], Size]
"""Side in pixels of the square that a picture is resized to; or its (width, height) in the file -> (width, height)."""

_READERS: MappingProxyType[str, Callable[[bytes], Contents]] = MappingProxyType(
    {
        "JPEG": jpeg.read,
        "PNG": png.read,
        "WEBP": webp.read,
        "TIFF": tiff.read,
        "HEIF": heif.read,
        "AVIF": heif.read,
    }
)
_PLUGINS = MappingProxyType(
    {
        "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
        "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
        "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
        "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
        "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
        "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
        "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
        "HEIF": ("pillow_heif", "HeifImageFile"),
    }
)
"""Format -> the one plugin that reads it. A module is imported with the first file of its format."""

_VARIANT = re.compile(
    r"unsupported|not (?:yet )?(?:supported|implemented|installed)|unknown pixel mode|cannot handle", re.IGNORECASE
)
"""Words of the decoders for a valid file of a kind that they do not read."""
_PADDING = tuple(bits * 512 for bits in (b"", b"\x00", b"\x5a", b"\xa5", b"\x33"))
"""Put before the end of a JPEG that lacks it: as long as pixels are missing, they change with it."""


def decode(
    data: bytes,
    *,
    max_pixels: int | None = None,
    target: Target | None = None,
    profiles: ColorProfiles = ColorProfiles.IGNORED,
) -> Picture:
    """Decode the first picture of a file. Raises UndecodableImage, UnsupportedInput or ImageTooLarge.

    `target`: the pixels that the picture will be resized to. A much larger JPEG is decoded at 1/2, 1/4 or 1/8 of its
    size. None: every picture is decoded in full. `profiles`: print and grey pictures whose profile will be applied
    are decoded in full, because their samples are too far from light to be averaged.
    """
    kind = format_of(data[:SNIFFED_BYTES])
    if kind is None:
        raise UndecodableImage(f"the image cannot be decoded: it is not one of {', '.join(FORMATS)}")
    with _refusing(kind, known=kind != "TIFF"):
        contents = _READERS[kind](data) if kind in _READERS else Contents(pixels=data)
        image = _opened(kind, contents.pixels)
    check_pixels(image.size, max_pixels)
    if kind == "AVIF":  # libheif compares the two sizes itself, libavif does not
        check_pixels(av1.largest_picture(contents.pixels), max_pixels)
    if profiles is ColorProfiles.TO_SRGB and image.mode != "RGB" and to_srgb(contents.profile, image.mode) is not None:
        target = None
    with _refusing(kind, known=not contents.is_rare):
        return _decoded(kind, image, contents, target)


def _decoded(kind: str, image: ImageFile.ImageFile, contents: Contents, target: Target | None) -> Picture:
    box = None if target is None else _draft(image, target)
    return Picture(
        image=_loaded(kind, image, contents, target),
        box=box,
        orientation=_orientation(kind, image, contents),
        profile=contents.profile or _profile(image),
        samples=contents.samples,
        signed=contents.signed,
    )


def check_pixels(size: tuple[int, int], most: int | None) -> None:
    """Raise ImageTooLarge for more pixels than the operator allows."""
    width, height = size
    if most is not None and width * height > most:
        raise ImageTooLarge(f"the image has {width} x {height} pixels; at most {most} are accepted; send it smaller")


def _opened(kind: str, data: bytes) -> ImageFile.ImageFile:
    """The header is read; no pixel is decoded."""
    return _plugin(kind)(io.BytesIO(data))


@cache
def _plugin(kind: str) -> type[ImageFile.ImageFile]:
    silence_image_libraries()
    module, name = _PLUGINS[kind]
    plugin: type[ImageFile.ImageFile] = getattr(importlib.import_module(module), name)
    return plugin


def _loaded(kind: str, image: ImageFile.ImageFile, contents: Contents, target: Target | None) -> Image.Image:
    """The picture with its pixels, and of its file's notes only the transparency."""
    header = image.size
    try:
        image.load()
    except OSError as error:
        if kind != "JPEG" or "truncated" not in str(error):
            raise
        return _without_end(contents, target)
    if image.width * image.height > header[0] * header[1]:
        raise UndecodableImage("the image cannot be decoded: its picture is larger than its header says")
    if kind == "PNG":
        image.info.pop("transparency", None)
        if contents.transparency is not None:
            image.info["transparency"] = contents.transparency
    return image


def _without_end(contents: Contents, target: Target | None) -> Image.Image:
    """A JPEG without its last marker, if every pixel is there. Viewers show such files. Raises UndecodableImage."""
    whole = contents.pixels.rstrip(b"\xff")
    if jpeg.is_whole_without_end(whole):
        first, *others = [_completed(whole + padding, target) for padding in _PADDING]
        if all(other.tobytes() == first.tobytes() for other in others):
            return first
    raise UndecodableImage("the image cannot be decoded: the file is cut short")


def _completed(data: bytes, target: Target | None) -> Image.Image:
    image = _opened("JPEG", data + b"\xff\xd9")
    if target is not None:
        _draft(image, target)
    image.load()
    return image


def _draft(image: ImageFile.ImageFile, target: Target) -> Box | None:
    """Choose the smallest fraction that leaves SCALING_MARGIN. -> the picture's box; None: in full."""
    if image.format != "JPEG":
        return None
    full = image.size
    width, height = (target, target) if isinstance(target, int) else target(full)
    drafted = image.draft(None, (math.ceil(SCALING_MARGIN * width), math.ceil(SCALING_MARGIN * height)))
    return drafted[1] if drafted and image.size != full else None


def _orientation(kind: str, image: Image.Image, contents: Contents) -> int:
    if kind == "HEIF":
        return 1  # libheif turns the picture by the container's own property
    return orientation_of(image.info.get("exif") if kind == "AVIF" else contents.exif, contents.xmp)


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return whole_profile(profile) if isinstance(profile, bytes) else None


@contextmanager
def _refusing(kind: str, *, known: bool) -> Iterator[None]:
    """Whatever a decoder raises inside the block becomes InvalidInput.

    `known`: the decoders read every valid file of this kind, so that a failure means damage.
    """
    try:
        yield
    except (InvalidInput, MemoryError):
        raise
    except ImportError:
        message = f"{kind} pictures are not read here: a library is not installed; send JPEG or PNG"
        raise UnsupportedInput(message) from None
    except Exception as error:  # noqa: BLE001 - decoders raise a dozen unrelated types on hostile bytes
        if not known or _VARIANT.search(str(error)):
            raise UnsupportedInput(f"this variant of {kind} is not supported; send JPEG or PNG") from None
        message = f"the image cannot be decoded: its {kind} data is damaged or cut short"
        raise UndecodableImage(message) from None
