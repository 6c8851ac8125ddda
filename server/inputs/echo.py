"""Inputs as answers repeat them: a text in full, an image shortened."""

from __future__ import annotations

from typing import Any

from siglip_edge.server.inputs.image_strings import Kind, kind_of
from siglip_edge.server.inputs.schemas import Modality

_ECHOED_CHARS = 64
"""An image that an answer repeats is cut after this many characters."""


def echo(given: Any, modality: Modality | None = None) -> Any:
    """An input of any form, as JSON has it. `modality`: the kind of plain strings that the request states."""
    if isinstance(given, str):
        return given if modality == "text" else echo_image(given) if modality == "image" else echo_string(given)
    if isinstance(given, list):
        return [echo(item, modality) for item in given]
    if isinstance(given, dict):
        return {key: _echo_field(key, value, modality) for key, value in given.items()}
    return given


def _echo_field(key: str, value: Any, modality: Modality | None) -> Any:
    if isinstance(value, str):
        return echo(value, modality) if key == "content" else value if key == "text" else echo_image(value)
    return echo(value, modality)


def echo_string(given: str) -> str:
    return given if kind_of(given) is Kind.TEXT else echo_image(given)


def echo_image(source: str) -> str:
    return source if len(source) <= _ECHOED_CHARS else source[:_ECHOED_CHARS] + "…"
