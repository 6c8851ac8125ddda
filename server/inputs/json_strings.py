"""Inputs that are written as JSON into a string: by a form, or by a program that encodes its JSON twice."""

from __future__ import annotations

from typing import Any

import msgspec

from siglip_edge.server.inputs.schemas import InputObject

_KEYS = frozenset(InputObject.__struct_fields__)


def inputs_in(text: str) -> list[Any]:
    """The items of a JSON list of strings and input objects, or one input object; empty for any other text.

    A record with other keys, as `{"image": "cat.jpg", "caption": "a cat"}`, is somebody's text.
    """
    source = text.strip()
    if source[:1] + source[-1:] not in {"{}", "[]"}:
        return []
    try:
        value = msgspec.json.decode(source)
    except (ValueError, RecursionError):
        return []
    items = value if isinstance(value, list) else [value]
    return items if all(map(_is_input, items)) else []


def _is_input(item: Any) -> bool:
    return isinstance(item, str) or (isinstance(item, dict) and bool(item) and item.keys() <= _KEYS)
