"""`space_id`: equal for two model directories exactly when their vectors may be compared.

It depends on the weights and the input contract, not on precision or file layout. A contract that version 1 of the
manifest could express has the same digest as in version 1, so that exporting a checkpoint again keeps users' indexes
valid.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from siglip_edge.runtime.artifacts.manifest import FullLength, Squash, TextTower, Towers, VisionTower

_NOT_CONTRACT = ("artifacts", "packed_tokenizer")


def space_id(weights_sha256: str, towers: Towers) -> str:
    """16 hexadecimal digits. `weights_sha256`: hexadecimal digest over the names and values of all tensors."""
    contract = _version_1(towers) or _version_2(towers)
    return hashlib.sha256(weights_sha256.encode() + msgspec.json.encode(contract)).hexdigest()[:16]


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
    return isinstance(vision.geometry, Squash) and vision.inputs == ("pixel_values",)


def _is_version_1_text(text: TextTower) -> bool:
    plain = not (text.prefix_ids or text.prompts) and len(text.suffix_ids) == 1
    return plain and isinstance(text.padding, FullLength) and text.inputs == ("token_embeddings",)


def _version_2(towers: Towers) -> dict[str, Any]:
    """Only fields that differ from their defaults, so that a new field of a later version changes no existing space."""
    return {name: _contract(spec) for name in ("vision", "text") if (spec := getattr(towers, name)) is not None}


def _contract(spec: VisionTower | TextTower) -> dict[str, Any]:
    fields = {field.name: field.default for field in msgspec.structs.fields(spec) if field.name not in _NOT_CONTRACT}
    return {name: value for name, default in fields.items() if (value := getattr(spec, name)) != default}
