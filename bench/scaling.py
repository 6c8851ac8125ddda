"""Decoding a JPEG at a fraction of its size, as the server does it: the loss of cosine, and the CPU time it saves.

    python -m siglip_edge.bench.scaling MODEL --photos DIR [--margins 1.5 2 2.5 3 4]

A margin is the number of pixels per target pixel that a fraction leaves. Every photograph is resized so that 1/2 or 1/4
of its shorter side gives exactly that margin, and once more with one pixel more, which the fraction does not divide.
Then the CPU time is measured with photographs of 12 megapixels that have noise like a camera's.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from siglip_edge.bench.bare import enlarge
from siglip_edge.bench.bodies import jpegs
from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.images import decoding
from siglip_edge.runtime.images.geometry import decoded_side
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import open_model

_FRACTIONS = (2, 4, 8)
_MARGINS = (1.5, 2.0, 2.5, 3.0, 4.0)


def at_fraction(data: bytes, fraction: int) -> Picture:
    """Decode at 1 / `fraction` of the size; 1: in full."""
    shorter = min(Image.open(io.BytesIO(data)).size)
    target = math.floor(shorter // fraction / decoding.SCALING_MARGIN)
    return decoding.decode(data, target=target if fraction > 1 else None)


def resized(photo: bytes, shorter: int) -> bytes:
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    size = [round(side * shorter / min(image.size)) for side in image.size]
    file = io.BytesIO()
    image.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def cosines(model: EmbeddingModel, data: bytes, fraction: int) -> tuple[float, float]:
    """-> cosines to the embedding of the fully decoded image: as served, and without the box of the true sides."""
    scaled, exact = at_fraction(data, fraction), at_fraction(data, 1)
    whole = replace(scaled, box=(0, 0, *scaled.image.size))
    vectors = model.run(Tower.VISION, [model.prepare_image(picture) for picture in (exact, scaled, whole)])
    return float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])


def worst(model: EmbeddingModel, photos: tuple[bytes, ...], margin: float, fraction: int, more: int) -> str:
    shorter = math.ceil(margin * fraction * decoded_side(model.manifest.vision.geometry)) + more
    served, whole = zip(*(cosines(model, resized(photo, shorter), fraction) for photo in photos), strict=True)
    return f"margin {margin}, 1/{fraction} of {shorter} pixels: {min(served):.5f} (squashed whole {min(whole):.5f})"


def milliseconds(model: EmbeddingModel, files: list[bytes], repeats: int = 5) -> dict[int, float]:
    """-> fraction -> median CPU milliseconds from bytes to a row; the fractions take turns."""
    spent: dict[int, list[float]] = {fraction: [] for fraction in (1, *_FRACTIONS)}
    for data in files * repeats:
        for fraction, times in spent.items():
            started = time.process_time()
            model.prepare_image(at_fraction(data, fraction))
            times.append(1000 * (time.process_time() - started))
    return {fraction: statistics.median(times) for fraction, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--margins", type=float, nargs="*", default=_MARGINS)
    args = parser.parse_args()
    manifest, photos = Manifest.load(args.model), jpegs(args.photos)
    for precision in manifest.precisions():
        model = open_model(args.model, Wishes(precision=precision), towers=[Tower.VISION])
        print(f"{precision}: worst cosine to the exact path, {len(photos)} photographs")
        for margin in args.margins:
            for fraction, more in ((2, 0), (2, 1), (4, 0), (4, 1)):
                print(" ", worst(model, photos, margin, fraction, more), flush=True)
    large = [enlarge(photo, seed) for seed, photo in enumerate(photos[:5])]
    size = np.mean([len(data) for data in large]) / 1e6
    times = ", ".join(f"1/{fraction} {spent:.1f}" for fraction, spent in milliseconds(model, large).items())
    side = decoded_side(manifest.vision.geometry)
    print(f"12 megapixels, {size:.1f} MB, to a row of {side} pixels per side, CPU ms: {times}")


if __name__ == "__main__":
    main()
