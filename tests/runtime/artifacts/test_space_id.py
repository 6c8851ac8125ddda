"""A space changes when vectors would not be comparable any more, and for no other reason."""

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import (
    Buckets,
    ColorProfiles,
    FullLength,
    PackedTokenizerSpec,
    Patches,
    ShortestSideCrop,
    Squash,
    TextTower,
    Towers,
    VisionTower,
)
from siglip_edge.runtime.artifacts.space_id import space_id, space_in_srgb

WEIGHTS = "ab" * 32
VISION = VisionTower(
    geometry=Squash(size=256, patch_size=16),
    resample="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.25, 0.5),
    artifacts={},
)
TEXT = TextTower(
    length=64,
    pad_id=0,
    suffix_ids=(1,),
    lowercase=True,
    tokenizer=FileRecord(path="tokenizer.json", size=7, sha256="cd" * 32),
    artifacts={},
)


def version_1_digest() -> str:
    """As version 1 of the exporter computed it, on the same contract."""
    image = {
        "size": 256,
        "patch_size": 16,
        "resample": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 0.5],
    }
    text = {
        "length": 64,
        "pad_id": 0,
        "eos_id": 1,
        "lowercase": True,
        "strip_punctuation": False,
        "tokenizer": {"path": "tokenizer.json", "size": 7, "sha256": "cd" * 32},
    }
    compact = json.dumps([image, text], separators=(",", ":"))
    return hashlib.sha256(WEIGHTS.encode() + compact.encode()).hexdigest()[:16]


def changed(*, vision=VISION, text=TEXT) -> str:
    return space_id(WEIGHTS, Towers(vision=vision, text=text))


def test_a_contract_of_version_1_keeps_its_space():
    """The same checkpoint, exported again by this version, keeps its users' indexes."""
    assert changed() == version_1_digest()


def test_precisions_and_the_packed_tokenizer_are_no_part_of_a_space():
    packed = PackedTokenizerSpec(file=FileRecord(path="tokenizer.bin", size=1, sha256=""), probes=3)
    assert changed(text=msgspec.structs.replace(TEXT, packed_tokenizer=packed)) == changed()
    buckets = msgspec.structs.replace(TEXT, padding=Buckets(lengths=(64,)))
    assert changed(text=msgspec.structs.replace(buckets, packed_tokenizer=packed)) == changed(text=buckets)


@pytest.mark.parametrize(
    "text",
    [
        {"length": 32},
        {"suffix_ids": (2,)},
        {"suffix_ids": ()},
        {"suffix_ids": (1, 2)},
        {"prefix_ids": (2,)},
        {"strip": True},
        {"lowercase": False},
        {"strip_punctuation": True},
        {"pools_first_end": True},
        {"prompts": {"query": "query: "}},
        {"prompts": {"query": "query: "}, "default_prompt": "query"},
        {"padding": Buckets(lengths=(8, 64))},
        {"tokenizer": FileRecord(path="tokenizer.json", size=7, sha256="ef" * 32)},
    ],
)
def test_another_way_to_make_text_rows_is_another_space(text):
    assert changed(text=msgspec.structs.replace(TEXT, **text)) != changed()


@pytest.mark.parametrize(
    "vision",
    [
        {"geometry": Squash(size=224, patch_size=16)},
        {"geometry": ShortestSideCrop(shortest_side=256, size=256, patch_size=16)},
        {"geometry": ShortestSideCrop(shortest_side=256, size=256, patch_size=16, rounds_half_to_even=True)},
        {"geometry": Patches(patch_size=16, default_patches=256, most_patches=1024)},
        {"resample": "bicubic"},
        {"mean": (0.5, 0.5, 0.4)},
    ],
)
def test_another_way_to_make_image_rows_is_another_space(vision):
    assert changed(vision=msgspec.structs.replace(VISION, **vision)) != changed()


def test_the_number_of_patches_is_no_part_of_the_space():
    """Vectors of one NaFlex checkpoint may be compared, however many patches each picture had."""
    few, many, smaller = (
        changed(vision=replace(VISION, geometry=Patches(patch_size=size, default_patches=most, most_patches=4 * most)))
        for size, most in ((16, 64), (16, 256), (14, 256))
    )
    assert few == many != smaller


def test_the_lengths_of_buckets_are_no_part_of_the_space():
    """Behind a mask, padding changes no vector."""
    few, many = (msgspec.structs.replace(TEXT, padding=Buckets(lengths=lengths)) for lengths in ((64,), (8, 64)))
    assert changed(text=few) == changed(text=many)


def test_other_weights_and_a_tower_less_are_another_space():
    whole = Towers(vision=VISION, text=TEXT)
    ids = {
        space_id(WEIGHTS, whole),
        space_id("cd" * 32, whole),
        space_id(WEIGHTS, Towers(text=TEXT)),
        space_id(WEIGHTS, Towers(vision=VISION)),
    }
    assert len(ids) == 4
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)


def test_a_field_left_at_its_default_is_the_same_contract():
    assert changed(text=msgspec.structs.replace(TEXT, padding=FullLength(), prefix_ids=())) == changed()


def test_profiles_converted_to_srgb_are_another_space_that_the_old_one_tells():
    """So that a model upgraded without its checkpoint is in the space of a new export."""
    ignoring = Towers(vision=VISION, text=TEXT)
    converting = Towers(vision=replace(VISION, color_profiles=ColorProfiles.TO_SRGB), text=TEXT)
    old, new = space_id(WEIGHTS, ignoring), space_id(WEIGHTS, converting)
    assert old == version_1_digest() != new
    assert new == space_in_srgb(old)
