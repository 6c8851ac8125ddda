"""Pictures with a colour profile: cosines to a careful decode, and the CPU time of a conversion.

    python -m siglip_edge.bench.color_profiles MODEL --photos DIR

Photographs are saved as JPEG with each profile. The careful decode is in full size, converted first. Then
a photograph of 12 megapixels is turned into a row, with and without a profile.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from siglip_edge.bench import icc_profiles as icc
from siglip_edge.bench.bare import enlarge
from siglip_edge.bench.bodies import jpegs
from siglip_edge.runtime.artifacts.manifest import ColorProfiles, Precision, Squash, Tower, VisionTower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.geometry import decoded_side
from siglip_edge.runtime.images.pixels import image_row
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import open_model

_PROFILES = {
    "Display P3": ("RGB", icc.rgb_profile(icc.DISPLAY_P3)),
    "Adobe RGB": ("RGB", icc.rgb_profile(icc.ADOBE_RGB, 2.2)),
    "ProPhoto": ("RGB", icc.rgb_profile(icc.PROPHOTO, 1.8)),
    "CMYK": ("CMYK", icc.cmyk_profile()),
}
_REPEATS = 5


def saved(image: Image.Image, kind: str, profile: bytes | None, **save: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **save)
    return file.getvalue()


def careful(image: Image.Image, profile: bytes) -> Image.Image:
    """The whole image in sRGB, as LittleCMS converts it."""
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    assert converted is not None
    return converted


def cosines(model: EmbeddingModel, files: list[bytes], profile: bytes) -> tuple[float, float, float]:
    """-> least cosine to the careful decode: as served, with the profile ignored, and converted after the resize."""
    vision = model.manifest.vision
    side = decoded_side(vision.geometry)
    images = [Image.open(io.BytesIO(file)) for file in files]
    exact = model.embed_images([careful(image, profile) for image in images])
    pictures = [decode(file, target=side, profiles=vision.color_profiles) for file in files]
    ignored = [replace(picture, profile=None) for picture in pictures]
    late = [careful(image.resize((side, side), Image.Resampling.BILINEAR), profile) for image in images]
    served, without, after = (
        float(np.sum(model.embed_images(seen) * exact, axis=1).min()) for seen in (pictures, ignored, late)
    )
    return served, without, after


def milliseconds(photo: bytes, size: int) -> Iterator[str]:
    """CPU time from bytes to a row of a tower of `size` pixels."""
    image = Image.open(io.BytesIO(enlarge(photo, 0)))
    spec = VisionTower(
        geometry=Squash(size=size, patch_size=16),
        resample="bilinear",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        color_profiles=ColorProfiles.TO_SRGB,
        artifacts={},
    )
    for kind, save in (("JPEG", {"quality": 90}), ("PNG", {"compress_level": 1}), ("HEIF", {"quality": 60})):
        for name, profile in (
            (None, None),
            ("sRGB", icc.rgb_profile(icc.SRGB)),
            ("Display P3", _PROFILES["Display P3"][1]),
        ):
            data = saved(image, kind, profile, **save)
            spent = []
            for _ in range(_REPEATS):
                started = time.process_time()
                image_row(decode(data, target=size, profiles=spec.color_profiles), spec)
                spent.append(1000 * (time.process_time() - started))
            yield f"{kind} {len(data) / 1e6:.1f} MB, {name or 'no profile'}: {statistics.median(spent):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    args = parser.parse_args()
    pillow_heif.register_heif_opener()
    photos = jpegs(args.photos)
    model = open_model(args.model, Wishes(device="cpu", precision=Precision.FP16), towers=[Tower.VISION])
    if model.manifest.vision.color_profiles is ColorProfiles.IGNORED:
        sys.exit("this model ignores profiles; siglip-edge upgrade --to-srgb changes that")
    print(f"least cosine to a careful decode, {len(photos)} photographs: served, profile ignored, converted at the end")
    for name, (mode, profile) in _PROFILES.items():
        files = [
            saved(Image.open(io.BytesIO(photo)).convert("RGB").convert(mode), "JPEG", profile, quality=92)
            for photo in photos
        ]
        print(f"  {name}: " + ", ".join(f"{cosine:.5f}" for cosine in cosines(model, files, profile)), flush=True)
    print("12 megapixels to a row of 256 pixels, CPU time")
    for line in milliseconds(photos[0], 256):
        print(" ", line, flush=True)


if __name__ == "__main__":
    main()
