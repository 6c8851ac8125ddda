"""A checkpoint's own image processor -> the contract of a vision tower. Whatever the tower cannot follow is refused."""

from __future__ import annotations

from typing import Any

from PIL import Image

from siglip_edge.exporter.errors import ExportError
from siglip_edge.runtime.artifacts.manifest import ColorProfiles, ShortestSideCrop, Squash, VisionTower

_PROCESSORS = ("CLIP", "ChineseCLIP", "ViT", "Siglip")
"""Kinds whose settings have the meaning that is read here. ConvNext's `size`, for example, is that before its crop."""
_STEPS = {
    "do_resize": "does not resize",
    "do_rescale": "does not rescale",
    "do_normalize": "does not normalise",
}


def load_vision_tower(source: str, image_size: int, patch_size: int) -> VisionTower:
    """The contract of the processor in preprocessor_config.json. Raises ExportError that names what is not followed."""
    return vision_tower(source, _load(source), image_size, patch_size)


def vision_tower(source: str, processor: Any, image_size: int, patch_size: int) -> VisionTower:
    """`processor`: an image processor of transformers."""
    _check_steps(source, processor)
    geometry = _geometry(source, processor, patch_size)
    if geometry.size != image_size:
        raise ExportError(
            f"{source}: its image processor makes {geometry.size} pixels, its vision tower takes {image_size}"
        )
    return VisionTower(
        geometry=geometry,
        resample=Image.Resampling(processor.resample).name.lower(),
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        color_profiles=ColorProfiles.TO_SRGB,
        artifacts={},
    )


def _load(source: str) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source, use_fast=False)
    except Exception as error:  # damaged files make transformers raise any type
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: no preprocessor_config.json that can be read ({reason})") from error


def _check_steps(source: str, processor: Any) -> None:
    kind = type(processor).__name__
    if kind not in {f"{known}ImageProcessor" for known in _PROCESSORS}:
        raise ExportError(f"{source}: images are prepared by {kind}, which is not known")
    for step, problem in _STEPS.items():
        if not getattr(processor, step):
            raise ExportError(f"{source}: its image processor {problem}; the vision tower needs it")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise ExportError(f"{source}: its image processor rescales by {processor.rescale_factor} instead of 1/255")
    if len(processor.image_mean) != 3 or len(processor.image_std) != 3:
        raise ExportError(f"{source}: its image processor does not normalise three channels")


def _geometry(source: str, processor: Any, patch_size: int) -> Squash | ShortestSideCrop:
    size = {side: pixels for side, pixels in dict(processor.size).items() if pixels is not None}
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else None
    square, cropped = (_square(sides) if sides else None for sides in (size, crop))
    shortest = size.get("shortest_edge") if set(size) == {"shortest_edge"} else None
    if shortest and cropped and shortest >= cropped:
        return ShortestSideCrop(shortest_side=shortest, size=cropped, patch_size=patch_size)
    if square and (crop is None or cropped == square):
        return Squash(size=square, patch_size=patch_size)
    raise ExportError(
        f"{source}: its image processor resizes to {size} and crops {crop or 'nothing'}; known are the shortest side "
        "with a square in its centre, and a square without a crop"
    )


def _square(sides: dict[str, int]) -> int | None:
    """Side of a square of `height` and `width`."""
    sides = {side: pixels for side, pixels in sides.items() if pixels is not None}
    return sides["height"] if set(sides) == {"height", "width"} and sides["height"] == sides["width"] else None
