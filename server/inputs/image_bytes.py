"""The bytes of image files: their limits and their magic numbers. No image is decoded here."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_edge.runtime.errors import ImageTooLarge
from siglip_edge.runtime.images.formats import format_of


@dataclass(frozen=True)
class ImageLimits:
    max_bytes: int
    """Largest file, in bytes."""


def is_image_magic(head: bytes) -> bool:
    """Whether the first bytes (24 or more) are those of an accepted format."""
    return format_of(head) is not None


def check_bytes(data: bytes, limits: ImageLimits) -> bytes:
    """-> the same bytes. Raises ImageTooLarge."""
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    return data


def too_many_bytes(size: int, limits: ImageLimits) -> ImageTooLarge:
    """The error of an image with `size` bytes."""
    return ImageTooLarge(f"the image has {size} bytes; at most {limits.max_bytes} are accepted")
