"""Keeps image libraries from writing a caller's bytes to stderr or to the log.

Pillow warns with values of tags, and libtiff prints every error of a file: 560 KB for a hostile file of 24 KB.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from contextlib import suppress
from pathlib import Path

_LIBRARIES = ("PIL", "pillow_heif")


def silence_image_libraries() -> None:
    """Errors of a decoder reach us as exceptions; warnings about metadata concern nobody."""
    for name in _LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    _silence_libtiff()


def _silence_libtiff() -> None:
    """Pillow turns libtiff's warnings off, and offers no way to turn its errors off."""
    from PIL import _imaging  # noqa: F401, PLC0415 - loads libtiff, whose copy is then looked up

    with suppress(OSError, AttributeError):  # without /proc, or with a libtiff inside another library
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libtiff" in line}
        for library in map(ctypes.CDLL, mapped):
            library.TIFFSetErrorHandler(None)
            library.TIFFSetErrorHandlerExt(None)
