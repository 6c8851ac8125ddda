"""A NaFlex model at several numbers of patches: images per second, and the cosine to the greatest number.

    python -m siglip_edge.bench.patches MODEL --photos DIRECTORY [--patches 64 128 256] [--rounds 3]

The numbers take turns, photograph by photograph, so that a busy machine slows all of them alike; the rate is of whole
runs of one image, decoded before. Printed per number: patches used, images per second and its ratio to the greatest
number, mean and least cosine to the same photograph at the greatest number, and the share of photographs whose nearest
other photograph stays the same.

Random weights (`bench.checkpoint --family naflex`) have the speed of trained ones, but their cosines say nothing about
meaning. `bench.checkpoints.naflex.from_siglip` writes a trained SigLIP checkpoint in NaFlex's form.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.model import EmbeddingModel, Floats
from siglip_edge.runtime.open_model import open_model
from siglip_edge.runtime.rows import Row

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def rows_of(model: EmbeddingModel, photos: Sequence[Path], numbers: Sequence[int]) -> dict[int, list[Row]]:
    """Most patches -> a row per photograph."""
    pictures = [decode(photo.read_bytes()) for photo in photos]
    return {most: [model.prepare_image(picture, most) for picture in pictures] for most in numbers}


def seconds(model: EmbeddingModel, rows: Mapping[int, Sequence[Row]], rounds: int) -> dict[int, float]:
    """Most patches -> seconds per image: the mean over the photographs of the median over the rounds."""
    taken: dict[int, list[list[float]]] = {most: [[] for _ in of] for most, of in rows.items()}
    photographs = range(len(next(iter(rows.values()))))
    for _ in range(rounds):
        for photograph in photographs:
            for most, of in rows.items():
                started = time.perf_counter()
                model.run(Tower.VISION, [of[photograph]])
                taken[most][photograph].append(time.perf_counter() - started)
    return {most: statistics.mean(map(statistics.median, times)) for most, times in taken.items()}


def nearest(vectors: Floats) -> Floats:
    """Place of each row's nearest other row."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return np.asarray(cosines.argmax(axis=1))


def report(model: EmbeddingModel, rows: Mapping[int, list[Row]], rounds: int) -> list[str]:
    vectors = {most: np.concatenate([model.run(Tower.VISION, [row]) for row in of]) for most, of in rows.items()}
    pace, greatest = seconds(model, rows, rounds), max(rows)
    lines = []
    for most, of in rows.items():
        cosines = np.sum(vectors[most] * vectors[greatest], axis=1)
        same = np.mean(nearest(vectors[most]) == nearest(vectors[greatest]))
        used = statistics.mean(row.cost for row in of)
        lines.append(
            f"{most:5} patches ({used:6.1f} used)  {1 / pace[most]:7.2f} images/s, {pace[greatest] / pace[most]:5.2f} x"
            f"  cosine {cosines.mean():.4f}, least {cosines.min():.4f}  nearest kept {same:6.1%}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--patches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    photos = sorted(path for path in arguments.photos.iterdir() if path.suffix in _SUFFIXES)
    model = open_model(arguments.model, Wishes(), towers=[Tower.VISION])
    print(f"{model.manifest.name}: {model.plan.place}, {model.plan.reason}; {len(photos)} photographs")
    print(*report(model, rows_of(model, photos, arguments.patches), arguments.rounds), sep="\n")


if __name__ == "__main__":
    main()
