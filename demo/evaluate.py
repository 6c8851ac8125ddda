"""Name pictures among all ~1 900 names, in ten languages.

Run: `python -m demo.evaluate [--model DIR] [--precision int8]`.

Measures any model through two functions, one that embeds pictures and one that embeds texts: the torch checkpoint here,
an ONNX model directory through `runtime.model.EmbeddingModel`, or anything else that is passed to `measure`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from demo.pictures import DATA, HERE, LANGUAGES, load_names, load_pictures

T = TypeVar("T")
Vectors = NDArray[np.float32]
EmbedImages = Callable[[list[Image.Image]], Vectors]  # n pictures -> (n, D), unit rows
EmbedTexts = Callable[[list[str]], Vectors]  # n texts -> (n, D), unit rows

BATCH = 128
SPLITS = {"heldout": "held-out pictures", "unseen": "unseen vendor (openmoji)"}


@dataclass(frozen=True)
class Labelled:
    """Pictures and the number of the concept that each shows."""

    title: str
    pictures: list[Image.Image]
    concept: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Shares of pictures, from 0 to 1, whose own name is the nearest, and among the five nearest."""

    top1: float
    top5: float


def measure(
    embed_images: EmbedImages, embed_texts: EmbedTexts, sets: list[Labelled], template: str = "{}"
) -> dict[str, dict[str, Score]]:
    """{test set: {language: score}}"""
    named = {lang: embed_names(embed_texts, lang, template) for lang in LANGUAGES}
    seen = {labelled.title: embed_in_parts(embed_images, labelled.pictures, labelled.title) for labelled in sets}
    return {s.title: {lang: score(seen[s.title] @ named[lang].T, s.concept) for lang in LANGUAGES} for s in sets}


def embed_names(embed_texts: EmbedTexts, language: str, template: str = "{}") -> Vectors:
    """-> (concepts, D), in the order of names.json"""
    return embed_in_parts(embed_texts, [template.format(names[language]) for names in load_names().values()], language)


def embed_in_parts(embed: Callable[[list[T]], Vectors], items: list[T], title: str) -> Vectors:
    """Embed BATCH items at a time, with a progress bar."""
    starts = tqdm(range(0, len(items), BATCH), desc=title, leave=False)
    return np.concatenate([embed(items[start : start + BATCH]) for start in starts])


def score(similarity: Vectors, concept: NDArray[np.int64]) -> Score:
    """(pictures, concepts) cosines, (pictures,) -> how high the right name ranks. A tie counts against the model."""
    own = np.take_along_axis(similarity, concept[:, None], axis=1)
    rank = (similarity >= own).sum(axis=1)
    return Score(float((rank <= 1).mean()), float((rank <= 5).mean()))


# --- pictures ---------------------------------------------------------------------------------------------------------


def load_labelled() -> list[Labelled]:
    """Both test sets where `demo.prepare` has run; the shipped sample of held-out pictures elsewhere."""
    if (DATA / "pictures.npy").exists():
        return [_stored(split, title) for split, title in SPLITS.items()]
    return [load_shipped()]


def _stored(split: str, title: str) -> Labelled:
    pictures = load_pictures(split)
    return Labelled(title, [_over_white(rgba) for rgba in pictures.rgba], pictures.concept)


def _over_white(rgba: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(rgba)
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def load_shipped(folder: Path = HERE / "heldout") -> Labelled:
    number = {slug: i for i, slug in enumerate(load_names())}
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pictures = [Image.open(folder / row["file"]).convert("RGB") for row in rows]
    return Labelled("shipped held-out sample", pictures, np.array([number[row["slug"]] for row in rows]))


# --- models -----------------------------------------------------------------------------------------------------------


def torch_embedders(folder: Path) -> tuple[EmbedImages, EmbedTexts]:
    """A Hugging Face checkpoint in float32, through transformers' own image processor."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoImageProcessor

    from demo.checkpoint import load_checkpoint
    from demo.texts import encode

    model, tokenizer = load_checkpoint(folder)
    processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)

    def embed_images(pictures: list[Image.Image]) -> Vectors:
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            vectors: Vectors = F.normalize(model.get_image_features(pixel_values=pixels), dim=1).numpy()
        return vectors

    def embed_texts(texts: list[str]) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = F.normalize(model.get_text_features(input_ids=encode(tokenizer, texts)), dim=1).numpy()
        return vectors

    return embed_images, embed_texts


def onnx_embedders(folder: Path, precision: str | None) -> tuple[EmbedImages, EmbedTexts]:
    """An exported model directory on the CPU, through the code that serves it."""
    from siglip_edge.runtime.artifacts.manifest import Precision
    from siglip_edge.runtime.execution.plan import Wishes
    from siglip_edge.runtime.open_model import open_model

    wishes = Wishes(device="cpu", precision=Precision(precision) if precision else None)
    model = open_model(folder, wishes)
    return model.embed_images, model.embed_texts


def embedders(folder: Path, precision: str | None) -> tuple[EmbedImages, EmbedTexts]:
    """A directory with a manifest is an exported model, any other a checkpoint."""
    return onnx_embedders(folder, precision) if (folder / "manifest.json").exists() else torch_embedders(folder)


# --- report -----------------------------------------------------------------------------------------------------------


def print_table(scores: dict[str, dict[str, Score]]) -> None:
    """Languages down, test sets across."""
    print(f"{'':6}" + "".join(f"{title:>30}" for title in scores))
    print(f"{'':6}" + "".join(f"{'top-1':>22}{'top-5':>8}" for _ in scores))
    for language in LANGUAGES:
        cells = (
            f"{100 * by_language[language].top1:>21.1f}%{100 * by_language[language].top5:>7.1f}%"
            for by_language in scores.values()
        )
        print(f"{language:6}" + "".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, default=HERE / "checkpoint", help="checkpoint or exported model directory"
    )
    parser.add_argument(
        "--precision", choices=["fp32", "fp16", "int8", "int4"], help="which artifact of an exported model"
    )
    parser.add_argument("--template", default="{}", help="what each name is put into, as in 'a picture of {}'")
    arguments = parser.parse_args()
    embed_images, embed_texts = embedders(arguments.model, arguments.precision)
    sets = load_labelled()
    print(f"{arguments.model}: {', '.join(f'{len(s.pictures)} {s.title}' for s in sets)}; {len(load_names())} names")
    print_table(measure(embed_images, embed_texts, sets, arguments.template))


if __name__ == "__main__":
    main()
