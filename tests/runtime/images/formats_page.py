"""`docs/image-formats.md` on standard output: `python -m tests.runtime.images.formats_page > docs/image-formats.md`.

Every row is proven while it is written: the file is made, decoded and compared with the picture that it should be.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from siglip_edge.bench import icc_profiles as icc
from siglip_edge.runtime.artifacts.manifest import ColorProfiles
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.images.color import rgb
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.orientation import upright
from tests.picture_files import TURNED, chunk, grey_tiff, picture, saved, segment, tiff, with_chunk

_INTRODUCTION = """\
# Image formats

Written by `python -m tests.runtime.images.formats_page > docs/image-formats.md`. The program makes a file of each row,
decodes it as the server does and compares its pixels with the picture that the row promises; `tests/test_documents.py`
compares this page with its output. Suites of public test pictures: [CONTRIBUTING.md](../CONTRIBUTING.md#public-pictures).

| format | file | mode | what happens |
|---|---|---|---|
"""

_NOTES = """
A file that is cut short, or so damaged that its decoder fails, is a 400 (`image_undecodable`). Decoders of JPEG, WebP, GIF
and HEIC go on after some damage of the pixel data, as viewers do: such a picture is read as viewers show it. HEIC is turned by its
own property and not by EXIF, as its standard says; HDR transfer curves without an ICC profile are not converted.
A valid variant that is not read is a 400
(`unsupported_input`), a picture above `MAX_IMAGE_PIXELS` a 400 (`image_too_large`). Decoding and conversion take at most 17
bytes per pixel, least for a large JPEG (less than one), most for WebP. Pages and frames after the first are ignored.
"""

SMALL = picture(64, 48)
LOSSLESS, LOSSY = 0, 6
"""Greatest mean difference to the expected picture, of 255."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file, and the picture that it should be; None: it is refused in words."""

    kind: str
    file: str
    data: bytes
    promise: str = "read"
    picture: Image.Image | None
    tolerance: float = LOSSLESS


def page() -> str:
    """The whole page. Raises AssertionError for a row that is not true."""
    return _INTRODUCTION + "".join(line(row) for row in rows()) + _NOTES


def line(row: Row) -> str:
    try:
        decoded = decode(row.data)
        seen = upright(rgb(decoded, ColorProfiles.TO_SRGB), decoded.orientation)
    except InvalidInput as error:
        if row.picture is not None:
            raise
        return f"| {row.kind} | {row.file} | | refused: {error} |\n"
    assert row.picture is not None, (row.kind, row.file)
    difference = np.abs(np.asarray(seen).astype(int) - np.asarray(row.picture.convert("RGB")).astype(int)).mean()
    assert difference <= row.tolerance, (row.kind, row.file, difference)
    return f"| {row.kind} | {row.file} | {decoded.image.mode} | {row.promise} |\n"


def rows() -> Iterator[Row]:
    yield from _jpeg()
    yield from _png()
    yield from _tiff()
    yield from _others()


def _jpeg() -> Iterator[Row]:
    def row(file: str, data: bytes, image: Image.Image | None = SMALL, promise: str = "read") -> Row:
        return Row(kind="JPEG", file=file, data=data, picture=image, promise=promise, tolerance=LOSSY)

    plain, ink = saved(SMALL, "JPEG", quality=95), SMALL.convert("CMYK")
    yield row("colour", plain)
    yield row("progressive", saved(SMALL, "JPEG", quality=95, progressive=True))
    yield row("grey", saved(SMALL.convert("L"), "JPEG", quality=95), SMALL.convert("L"))
    yield row(
        "CMYK, inverted as Adobe writes it", saved(ink, "JPEG", quality=95), promise="read, converted without a profile"
    )
    yield row(
        "CMYK with a profile",
        saved(ink, "JPEG", quality=95, icc_profile=icc.cmyk_profile()),
        _by_profile(ink),
        "converted to sRGB",
    )
    yield row(
        "Display P3",
        saved(SMALL, "JPEG", quality=95, icc_profile=icc.rgb_profile(icc.DISPLAY_P3)),
        _from_p3(),
        "converted to sRGB",
    )
    yield row(
        "turned by EXIF",
        plain[:2] + segment(0xE1, b"Exif\0\0" + tiff(TURNED)) + plain[2:],
        SMALL.transpose(Image.Transpose.ROTATE_270),
        "turned upright",
    )
    yield row(
        "damaged EXIF", plain[:2] + segment(0xE1, b"Exif\0\0MM\0*?") + plain[2:], promise="read; the note is ignored"
    )
    yield row(
        "several pictures (MPO)",
        saved(SMALL, "MPO", quality=95, save_all=True, append_images=[SMALL.rotate(180)]),
        promise="the first",
    )
    yield row("without its end marker", plain[:-2], promise="read: every pixel is there")
    yield row("cut short", plain[: len(plain) // 2], None)
    yield row("12 bits per sample", plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), None)


def _png() -> Iterator[Row]:
    def row(file: str, data: bytes, image: Image.Image | None = SMALL, promise: str = "read") -> Row:
        return Row(kind="PNG", file=file, data=data, picture=image, promise=promise, tolerance=0.6)

    plain, grey, few = saved(SMALL, "PNG"), SMALL.convert("L"), SMALL.quantize(32)
    deep = np.asarray(grey).astype(np.uint16) * 257
    yield row("colour", plain)
    yield row("bilevel", saved(SMALL.convert("1"), "PNG"), SMALL.convert("1"))
    yield row("grey", saved(grey, "PNG"), grey)
    yield row("grey, 16 bits", saved(Image.fromarray(deep), "PNG"), grey, "scaled to 8 bits")
    yield row(
        "grey, 16 bits, a transparent sample",
        with_chunk(saved(Image.fromarray(deep), "PNG"), chunk(b"tRNS", deep[0, 0].astype(">u2").tobytes())),
        _clear(grey, np.asarray(grey) == np.asarray(grey)[0, 0]),
        "scaled, on white",
    )
    yield row("grey and alpha", saved(_faded(grey, "LA"), "PNG"), _over_white(_faded(grey, "LA")), "blended over white")
    yield row("palette", saved(few, "PNG"), few)
    yield row(
        "palette, one transparent entry",
        saved(few, "PNG", transparency=3),
        _clear(few, np.asarray(few) == 3),
        "on white",
    )
    yield row(
        "palette, alpha per entry",
        saved(few, "PNG", transparency=bytes(range(0, 256, 8))),
        _over_white(_palette_alpha(few)),
        "blended over white",
    )
    yield row(
        "colour, a transparent colour",
        with_chunk(plain, chunk(b"tRNS", struct.pack(">3H", *np.asarray(SMALL)[5, 5]))),
        _clear(SMALL, (np.asarray(SMALL) == np.asarray(SMALL)[5, 5]).all(2)),
        "on white",
    )
    yield row(
        "colour and alpha",
        saved(_faded(SMALL, "RGBA"), "PNG"),
        _over_white(_faded(SMALL, "RGBA")),
        "blended over white",
    )
    yield row(
        "Display P3", saved(SMALL, "PNG", icc_profile=icc.rgb_profile(icc.DISPLAY_P3)), _from_p3(), "converted to sRGB"
    )
    yield row(
        "animated (APNG)",
        saved(SMALL, "PNG", save_all=True, append_images=[SMALL.rotate(180)]),
        promise="the first frame",
    )
    yield row(
        "wrong checksum of a text",
        with_chunk(plain, chunk(b"tEXt", b"a\0b", crc=1)),
        promise="read; the note is ignored",
    )
    yield row("cut short", plain[: len(plain) // 2], None)
    yield row("Apple's private form, from inside an app", plain[:8] + chunk(b"CgBI", bytes(4)) + plain[8:], None)


def _tiff() -> Iterator[Row]:
    def row(
        file: str, data: bytes, image: Image.Image | None = SMALL, promise: str = "read", tolerance: float = 1
    ) -> Row:
        return Row(kind="TIFF", file=file, data=data, picture=image, promise=promise, tolerance=tolerance)

    ramp = np.arange(0, 256, 5).astype(np.uint8)
    grey = Image.fromarray(ramp[None])
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma"):
        yield row(
            f"colour, {compression.removeprefix('tiff_').replace('_', ' ')}",
            saved(SMALL, "TIFF", compression=compression),
        )
    yield row("colour, JPEG", saved(SMALL, "TIFF", compression="jpeg", quality=95), tolerance=LOSSY)
    yield row("BigTIFF", saved(SMALL, "TIFF", big_tiff=True))
    yield row("BigTIFF, big-endian", grey_tiff(ramp, order=">", big=True), grey)
    yield row(
        "several pages", saved(SMALL, "TIFF", save_all=True, append_images=[SMALL.rotate(180)]), promise="the first"
    )
    yield row("bilevel, fax", saved(SMALL.convert("1"), "TIFF", compression="group4"), SMALL.convert("1"))
    yield row("palette", saved(SMALL.quantize(32), "TIFF"), SMALL.quantize(32))
    yield row("CMYK", saved(SMALL.convert("CMYK"), "TIFF"), promise="read, converted without a profile")
    yield row("YCbCr", saved(SMALL.convert("YCbCr"), "TIFF"), tolerance=2)
    yield row("L\\*a\\*b\\*", saved(_lab(), "TIFF"), promise="converted to sRGB", tolerance=4)
    yield row(
        "colour and alpha",
        saved(_faded(SMALL, "RGBA"), "TIFF"),
        _over_white(_faded(SMALL, "RGBA")),
        "blended over white",
    )
    yield row(
        "colour and premultiplied alpha", _premultiplied(), _over_white(_faded(SMALL, "RGBA")), "blended over white", 2
    )
    yield row(
        "grey, 12 bits", _twelve_bits(), Image.fromarray(np.array([[0, 255, 128, 64]], np.uint8)), "scaled to 8 bits"
    )
    yield row("grey, 16 bits", grey_tiff(ramp.astype(np.uint16) * 257), grey, "scaled to 8 bits")
    yield row(
        "grey, 16 bits, white is zero",
        grey_tiff(65535 - ramp.astype(np.uint16) * 257, photometric=0),
        grey,
        "scaled to 8 bits",
    )
    for name, samples in (
        ("32-bit integers", ramp.astype(np.uint32)),
        ("signed 16-bit integers", ramp.astype(np.int16)),
        ("floating point", ramp.astype(np.float32)),
    ):
        yield row(
            f"grey, {name}, with SMinSampleValue and SMaxSampleValue",
            grey_tiff(samples, *_range(0, 255)),
            grey,
            "scaled to 8 bits",
        )
    yield row("the same without the two values", grey_tiff(ramp.astype(np.uint32)), None)
    yield row("a rare compression or form", grey_tiff(ramp, (259, 3, 1, struct.pack("<H", 34712))), None)


def _others() -> Iterator[Row]:
    faded, few = _faded(SMALL, "RGBA"), SMALL.quantize(32)
    two: dict[str, object] = {"save_all": True, "append_images": [SMALL.rotate(180)]}
    p3 = icc.rgb_profile(icc.DISPLAY_P3)
    yield Row(kind="WebP", file="lossy", data=saved(SMALL, "WEBP", quality=95), picture=SMALL, tolerance=LOSSY)
    yield Row(
        kind="WebP",
        file="lossless, alpha",
        data=saved(faded, "WEBP", lossless=True),
        picture=_over_white(faded),
        promise="blended over white",
    )
    yield Row(
        kind="WebP",
        file="animated",
        data=saved(SMALL, "WEBP", lossless=True, **two),
        picture=SMALL,
        promise="the first frame",
    )
    yield Row(
        kind="WebP",
        file="damaged EXIF",
        data=saved(SMALL, "WEBP", lossless=True, exif=b"Exif\0\0garbage!"),
        picture=SMALL,
        promise="read; the note is ignored",
    )
    yield Row(kind="GIF", file="one frame", data=saved(few, "GIF"), picture=few)
    yield Row(
        kind="GIF",
        file="a transparent entry",
        data=saved(few, "GIF", transparency=3),
        picture=_clear(few, np.asarray(few) == 3),
        promise="on white",
    )
    yield Row(
        kind="GIF",
        file="animated",
        data=saved(few, "GIF", save_all=True, append_images=[few.rotate(180)]),
        picture=few,
        promise="the first frame",
    )
    yield Row(kind="BMP", file="colour", data=saved(SMALL, "BMP"), picture=SMALL)
    for kind, name in (("AVIF", "AVIF"), ("HEIF", "HEIC")):
        yield Row(kind=name, file="colour", data=saved(SMALL, kind, quality=90), picture=SMALL, tolerance=LOSSY)
        yield Row(
            kind=name,
            file="alpha",
            data=saved(faded, kind, quality=95),
            picture=_over_white(faded),
            promise="blended over white",
            tolerance=LOSSY,
        )
        yield Row(
            kind=name,
            file="turned by its own property",
            data=saved(SMALL, kind, quality=90, exif=tiff(TURNED)),
            picture=SMALL.transpose(Image.Transpose.ROTATE_270),
            promise="turned upright",
            tolerance=LOSSY,
        )
        yield Row(
            kind=name,
            file="Display P3",
            data=saved(SMALL, kind, quality=95, icc_profile=p3),
            picture=_from_p3(),
            promise="converted to sRGB",
            tolerance=LOSSY,
        )
        yield Row(
            kind=name,
            file="several pictures",
            data=saved(SMALL, kind, quality=90, **two),
            picture=SMALL,
            promise="the first",
            tolerance=LOSSY,
        )
    yield Row(
        kind="others",
        file="PPM, ICO, PSD, JPEG 2000, JPEG XL, SVG, PDF, camera raw, …",
        data=saved(SMALL, "PPM"),
        picture=None,
    )


def _faded(image: Image.Image, mode: str) -> Image.Image:
    """Transparent at the top, opaque at the bottom."""
    faded = image.convert(mode)
    faded.putalpha(Image.linear_gradient("L").resize(image.size))
    return faded


def _over_white(image: Image.Image) -> Image.Image:
    """By the definition of alpha, in floating point."""
    samples = np.asarray(image.convert("RGBA")).astype(float)
    alpha = samples[..., 3:] / 255
    return Image.fromarray(np.rint(samples[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8))


def _clear(image: Image.Image, where: np.ndarray) -> Image.Image:
    samples = np.array(image.convert("RGB"))
    samples[where] = 255
    return Image.fromarray(samples)


def _palette_alpha(few: Image.Image) -> Image.Image:
    rgba = np.array(few.convert("RGBA"))
    rgba[..., 3] = np.arange(0, 256, 8)[np.asarray(few)]
    return Image.fromarray(rgba)


def _from_p3() -> Image.Image:
    return Image.fromarray(np.rint(icc.to_srgb(np.asarray(SMALL), icc.DISPLAY_P3, None)).astype(np.uint8))


def _by_profile(ink: Image.Image) -> Image.Image:
    return _littlecms(ink, icc.cmyk_profile())


def _littlecms(image: Image.Image, profile: bytes) -> Image.Image:
    import io

    from PIL import ImageCms

    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return converted


def _lab() -> Image.Image:
    from PIL import ImageCms

    made = ImageCms.profileToProfile(
        SMALL, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert made is not None
    return made


def _range(low: float, high: float) -> tuple[tuple[int, int, int, bytes], ...]:
    return (340, 12, 1, struct.pack("<d", low)), (341, 12, 1, struct.pack("<d", high))


def _premultiplied() -> bytes:
    samples = np.asarray(_faded(SMALL, "RGBA")).astype(int)
    samples[..., :3] = samples[..., :3] * samples[..., 3:] // 255
    image = Image.fromarray(samples.astype(np.uint8))
    return saved(image, "TIFF", compression="raw").replace(
        struct.pack("<HHII", 338, 3, 1, 2), struct.pack("<HHII", 338, 3, 1, 1)
    )


def _twelve_bits() -> bytes:
    packed = np.frombuffer(bytes.fromhex("000fff800400"), np.uint8)
    return grey_tiff(packed, (256, 4, 1, struct.pack("<I", 4)), (258, 3, 1, b"\x0c\0"))


if __name__ == "__main__":
    sys.stdout.write(page())
