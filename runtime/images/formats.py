"""The accepted image formats, by their magic numbers. Neither Pillow nor a file's content is needed here."""

from __future__ import annotations

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The explicit list. Files from strangers never reach another decoder."""

SNIFFED_BYTES = 24
"""Bytes that `format_of` needs."""

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0\x08\0\0\0": "TIFF",  # BigTIFF: offsets of eight bytes
    b"MM\0+\0\x08\0\0": "TIFF",
}
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({
    *(b"heic", b"heix", b"heim", b"heis"),  # one picture, HEVC
    *(b"hevc", b"hevx", b"hevm", b"hevs"),  # a sequence, HEVC
    *(b"mif1", b"msf1", b"mif2"),  # a container of any codec; the other brands of the file say which
})  # fmt: skip


def format_of(head: bytes) -> str | None:
    """The format of a file by its first bytes (24 or more); None: not an accepted one."""
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":  # many texts begin with BM, so the reserved zeros count too
        return "BMP"
    return _heif_or_avif(head) if head[4:8] == b"ftyp" else None


def _heif_or_avif(head: bytes) -> str | None:
    major, others = head[8:12], {head[16:20], head[20:24]}
    if major in _AVIF_BRANDS or (major in _HEIF_BRANDS and others & _AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if major in _HEIF_BRANDS else None
