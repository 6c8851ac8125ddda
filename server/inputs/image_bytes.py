"""The bytes of image files: their limits and their magic numbers. No image is decoded here."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_edge.runtime.errors import ImageTooLarge


@dataclass(frozen=True)
class ImageLimits:
    max_bytes: int
    """Largest file, in bytes."""
    max_pixels: int
    """Largest width times height, by the header of the file."""


def is_image_magic(head: bytes) -> bool:
    """Whether the first bytes (16 or more) are those of an accepted format."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (
            head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
        )  # many texts begin with BM, so the reserved zeros count too
        or (head[4:12] in (b"ftypavif", b"ftypavis"))
    )


def check_bytes(data: bytes, limits: ImageLimits) -> bytes:
    """-> the same bytes. Raises ImageTooLarge."""
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    return data


def too_many_bytes(size: int, limits: ImageLimits) -> ImageTooLarge:
    """The error of an image with `size` bytes."""
    return ImageTooLarge(f"the image has {size} bytes; at most {limits.max_bytes} are accepted")
