"""Variables of earlier servers that say the same in other words -> the words of this server.

A variable that means exactly the same is only a second name in the table of settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from siglip_edge.server.config.parsing import boolean


class Translated(NamedTuple):
    """A value in the words of this server. An empty text: the variable says nothing that differs from the default."""

    text: str
    notice: str = ""
    """One sentence about what the operator may not expect."""


def _device(text: str) -> Translated:
    if text.partition(":")[0] != "mps":
        return Translated(text)
    return Translated("cpu", f"MODEL_DEVICE={text}: onnxruntime does not use Apple's GPU here, so the CPU serves")


def _batch_size(text: str) -> Translated:
    return Translated("" if boolean(text) else "1")


def _log_level(text: str) -> Translated:
    return Translated("debug" if boolean(text) else "info")


TRANSLATIONS: Mapping[str, Callable[[str], Translated]] = {
    "MODEL_DEVICE": _device,
    "ENABLE_BATCHING": _batch_size,
    "SIGLIP_VERBOSE_OUTPUT": _log_level,
}


def translated(name: str, text: str) -> Translated:
    """The value of the variable `name`. Raises UnreadableValue."""
    return TRANSLATIONS.get(name, Translated)(text)
