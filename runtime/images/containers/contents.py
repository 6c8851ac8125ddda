"""The parts of an image file that matter."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PROFILE_BYTES = 4 << 20
"""A larger colour profile is ignored. Those of printing presses take one or two megabytes."""


@dataclass(frozen=True, kw_only=True)
class SampleRange:
    """The samples that mean black and white."""

    black: float
    white: float


@dataclass(frozen=True, kw_only=True)
class Contents:
    """An image file in parts."""

    pixels: bytes
    """The same file without its metadata."""
    exif: bytes | None = None
    xmp: bytes | None = None
    profile: bytes | None = None
    """ICC."""
    transparency: bytes | int | tuple[int, int, int] | None = None
    """As Pillow's `info` has it: alpha per palette entry, or the sample that is transparent."""
    samples: SampleRange | None = None
    """None: the file does not say, so that the number of bits decides, as far as it can."""
    signed: bool = False
    """Samples are two's complement numbers."""
    is_rare: bool = False
    """A variant that decoders may lack: when its pixels cannot be decoded, the file may be good."""


def whole_profile(profile: bytes) -> bytes | None:
    return profile if 0 < len(profile) <= MOST_PROFILE_BYTES else None
