"""`space_id`: equal for two model directories exactly when their vectors may be compared.

It depends on the weights and the input contract, not on precision or file layout. A contract that version 1 of the
manifest could express has the same digest as in version 1, so that exporting a checkpoint again keeps users' indexes
valid.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from siglip_edge.runtime.artifacts.manifest import (
    Buckets,
    ColorProfiles,
    Patches,
    Squash,
    TextTower,
    Towers,
    VisionTower,
)

_VERSION_1_VISION = {"geometry", "resample", "mean", "std"}
_VERSION_1_TEXT = {"length", "pad_id", "suffix_ids", "lowercase", "strip_punctuation", "tokenizer"}
_NOT_CONTRACT = ("artifacts", "packed_tokenizer")


def space_id(weights_sha256: str, towers: Towers) -> str:
    """16 hexadecimal digits. `weights_sha256`: hexadecimal digest over the names and values of all tensors."""
    if towers.vision is not None and towers.vision.color_profiles is ColorProfiles.TO_SRGB:
        ignoring = msgspec.structs.replace(towers.vision, color_profiles=ColorProfiles.IGNORED)
        return space_in_srgb(space_id(weights_sha256, msgspec.structs.replace(towers, vision=ignoring)))
    contract = _version_1(towers) or _version_2(towers)
    return hashlib.sha256(weights_sha256.encode() + msgspec.json.encode(contract)).hexdigest()[:16]


def space_in_srgb(space: str) -> str:
    """The space of the same model when it converts colour profiles to sRGB.

    It depends on the model's space alone, so that `siglip-edge upgrade` finds it without the checkpoint.
    """
    return hashlib.sha256(f"{space} color_profiles:{ColorProfiles.TO_SRGB}".encode()).hexdigest()[:16]


def templated(space: str, template: str | None) -> str:
    """The space of vectors whose texts are put into a sentence first. None: the same space."""
    return space if template is None else hashlib.sha256(f"{space}\n{template}".encode()).hexdigest()[:16]


def _version_1(towers: Towers) -> list[dict[str, Any]] | None:
    """The contract as version 1 wrote it; None when version 1 could not express it."""
    vision, text = towers.vision, towers.text
    if vision is None or text is None or not (_is_version_1_vision(vision) and _is_version_1_text(text)):
        return None
    assert isinstance(vision.geometry, Squash)
    image = {"size": vision.geometry.size, "patch_size": vision.geometry.patch_size, "resample": vision.resample}
    return [
        {**image, "mean": vision.mean, "std": vision.std},
        {
            "length": text.length,
            "pad_id": text.pad_id,
            "eos_id": text.suffix_ids[0],
            "lowercase": text.lowercase,
            "strip_punctuation": text.strip_punctuation,
            "tokenizer": text.tokenizer,
        },
    ]


def _is_version_1_vision(vision: VisionTower) -> bool:
    return isinstance(vision.geometry, Squash) and set(_contract(vision)) <= _VERSION_1_VISION


def _is_version_1_text(text: TextTower) -> bool:
    """Whether every field that version 1 did not know has its default."""
    return len(text.suffix_ids) == 1 and set(_contract(text)) <= _VERSION_1_TEXT


def _version_2(towers: Towers) -> dict[str, Any]:
    """Only fields that differ from their defaults, so that a new field of a later version changes no existing space."""
    return {name: _contract(spec) for name in ("vision", "text") if (spec := getattr(towers, name)) is not None}


def _contract(spec: VisionTower | TextTower) -> dict[str, Any]:
    """Without the number of patches: NaFlex is trained so that vectors of any number of patches may be compared.

    And without the lengths of buckets: behind a mask, padding changes no vector.
    """
    fields = [field for field in msgspec.structs.fields(spec) if field.name not in _NOT_CONTRACT]
    values = {field.name: value for field in fields if (value := getattr(spec, field.name)) != _default(field)}
    if isinstance(geometry := values.get("geometry"), Patches):
        values["geometry"] = {"kind": "patches", "patch_size": geometry.patch_size}
    if isinstance(values.get("padding"), Buckets):
        values["padding"] = {"kind": "buckets"}
    return values


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
