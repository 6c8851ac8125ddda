"""Read a manifest of version 1 as version 2. The files of the directory and its `space_id` stay the same.

Version 1 described only one kind of model: two towers, images squashed to a square, texts padded to full length, and a
sigmoid.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Vision(msgspec.Struct):
    size: int
    patch_size: int
    resample: str
    mean: list[float]
    std: list[float]


class _Text(msgspec.Struct):
    length: int
    pad_id: int
    eos_id: int
    lowercase: bool
    strip_punctuation: bool
    tokenizer: dict[str, Any]
    packed: dict[str, Any] | None = None


class ManifestV1(msgspec.Struct):
    """The fields of a `manifest.json` of version 1 that version 2 needs."""

    name: str
    source: str
    dimensions: int
    image: _Vision
    text: _Text
    logit_scale: float
    """After `exp`."""
    logit_bias: float
    zero_shot_template: str
    space_id: str
    artifacts: list[dict[str, Any]]
    toolchain: dict[str, str]
    rotation: dict[str, Any] | None = None
    golden: dict[str, Any] | None = None


def to_version_2(data: bytes) -> dict[str, Any]:
    """JSON of version 1 -> the fields of version 2. Raises msgspec.MsgspecError when a field is missing or invalid."""
    old = msgspec.json.decode(data, type=ManifestV1)
    return {
        "format_version": 2,
        "name": old.name,
        "family": "siglip",
        "source": old.source,
        "dimensions": old.dimensions,
        "towers": {"vision": _vision(old), "text": _text(old)},
        "scoring": {"kind": "sigmoid", "scale": old.logit_scale, "bias": old.logit_bias},
        "shortening": old.rotation and {"kind": "rotation", **old.rotation},
        "zero_shot_template": old.zero_shot_template,
        "space_id": old.space_id,
        "golden": old.golden,
        "toolchain": old.toolchain,
    }


def _vision(old: ManifestV1) -> dict[str, Any]:
    image = old.image
    return {
        "geometry": {"kind": "squash", "size": image.size, "patch_size": image.patch_size},
        "resample": image.resample,
        "mean": image.mean,
        "std": image.std,
        "artifacts": _artifacts(old, "vision"),
    }


def _text(old: ManifestV1) -> dict[str, Any]:
    text = old.text
    return {
        "length": text.length,
        "pad_id": text.pad_id,
        "suffix_ids": [text.eos_id],
        "lowercase": text.lowercase,
        "strip_punctuation": text.strip_punctuation,
        "tokenizer": text.tokenizer,
        "packed_tokenizer": text.packed,
        "artifacts": _artifacts(old, "text"),
    }


def _artifacts(old: ManifestV1, tower: str) -> dict[str, Any]:
    return {
        one["precision"]: {key: value for key, value in one.items() if key not in {"tower", "precision"}}
        for one in old.artifacts
        if one["tower"] == tower
    }
