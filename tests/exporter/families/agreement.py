"""Inputs that go wrong elsewhere, and what every family's export must do with them."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.scoring import l2_normalize

TEXTS = [
    "a photo of a cat",
    "A PHOTO OF A CAT",
    "",
    " ",
    ".",
    "one two three four five six seven eight nine ten " * 30,
    "👩‍🚀🎉",
    "红色的苹果和一只猫",
    "¿Qué hora es?",
    "STRASSE straße İstanbul",
    "tabs\tand\nnew  lines",
    "<|endoftext|>",
    "a cat<|endoftext|> and a dog",
    "A CAT <|ENDOFTEXT|> <|startoftext|> it's we'll",
    "a cat</s> and a dog",
    "[CLS] [SEP] a [MASK] dog [PAD]",
    "many words " * 20 + "<|endoftext|></s>[SEP] and more",
    "\u200b\ufeff\u00ad",
    "½ ﬁ Å e\u0301 vs é ＡＢＣ “quotes”",
    "a" * 500,
    "مرحبا नमस्ते 서울 桜",
    "def f(x): return x ** 2 &amp; 1,234 €",
]


def served(directory: Path, precision: Precision) -> EmbeddingModel:
    manifest = Manifest.load(directory)
    return EmbeddingModel.load(directory, plan([CPU], read_cpu_budget(), manifest, Wishes(precision=precision)))


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.sum(l2_normalize(left) * l2_normalize(right), axis=1)


def hard_images() -> list[Image.Image]:
    """Wide, tall, grey, palette, small: upright and opaque, as every reference takes them alike."""
    base = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 14, 3), np.uint8)).resize((333, 127))
    shapes = [base, base.resize((900, 60)), base.resize((60, 900)), base.resize((7, 5)), base.resize((32, 32))]
    return [*shapes, base.convert("L"), base.convert("CMYK")]


def bits_change_with_the_batch(model: EmbeddingModel, images: Sequence[Image.Image], texts: Sequence[str]) -> bool:
    """Whether any row has other bits alone than in company."""
    together = [model.embed_images(images), model.embed_texts(texts)]
    alone = [
        np.vstack([model.embed_images([image]) for image in images]),
        np.vstack([model.embed_texts([text]) for text in texts]),
    ]
    return not all(np.array_equal(left, right) for left, right in zip(together, alone, strict=True))


def changed(checkpoint: Path, target: Path, file: str, change: Callable[[Any], Any]) -> Path:
    """A copy of the checkpoint with one JSON file changed."""
    shutil.copytree(checkpoint, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(change(content)))
    return target
