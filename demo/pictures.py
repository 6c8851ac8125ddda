"""The prepared pictures, as the training and evaluation scripts see them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
DATA = HERE / ".data"
LANGUAGES = ("en", "es", "zh", "de", "fr", "it", "ja", "ko", "pt", "ru")


def load_names() -> dict[str, dict[str, str]]:
    """{slug: {language: name}}, in CLDR order. The position of a slug is its concept's number everywhere in demo/."""
    names: dict[str, dict[str, str]] = json.loads((HERE / "names.json").read_text(encoding="utf-8"))
    return names


@dataclass(frozen=True)
class Pictures:
    """Pictures of one split: `rgba` (N, 64, 64, 4) uint8, `concept` (N,) int64."""

    rgba: NDArray[np.uint8]
    concept: NDArray[np.int64]


def load_pictures(split: str) -> Pictures:
    """split: train, heldout or unseen."""
    number = {slug: i for i, slug in enumerate(load_names())}
    with (DATA / "pictures.csv").open(newline="") as file:
        rows = [(i, row) for i, row in enumerate(csv.DictReader(file)) if row["split"] == split]
    stored = np.load(DATA / "pictures.npy", mmap_mode="r")
    return Pictures(stored[[i for i, _ in rows]], np.array([number[row["slug"]] for _, row in rows]))
