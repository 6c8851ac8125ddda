"""Write the shipped samples: demo/heldout (pictures never trained on) and demo/calibration (training material).

Run: `python -m demo.fixtures`, after `demo.prepare`. Hashes draw what is taken, so two runs write the same bytes.
"""

from __future__ import annotations

import colorsys
import csv
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from demo.pictures import DATA, HERE, LANGUAGES, load_names
from demo.prepare import Drawing, collect, render
from demo.texts import TEMPLATES, names, tags
from demo.vendors import VENDORS, Part, Vendor

HELD_OUT, HELD_OUT_LARGE = 200, 36  # pictures; of which this many are rendered larger
SIDE, LARGE_SIDE = 128, 256  # pixels
CALIBRATION, CALIBRATION_SIDE = 256, 80  # pictures; pixels, so that calibrating resizes as serving does
TEXTS = 512
PER_VENDOR = 24
# Things everybody knows: those of them that happen to be held out are all in the sample.
FAMILIAR = """
airplane anchor banana bicycle birthday-cake cactus camera cat-face cheese-wedge dog-face elephant fire guitar
hamburger hot-beverage house key octopus penguin pizza red-apple red-heart rocket snowman strawberry sunflower
umbrella closed-umbrella umbrella-with-rain-drops
"""


def lot(text: str) -> int:
    """A number that looks random and is the same for the same text."""
    return int.from_bytes(hashlib.sha256(f"fixtures/{text}".encode()).digest()[:8])


def drawn(found: list[Drawing], count: int, first: frozenset[str] = frozenset()) -> list[Drawing]:
    """`count` drawings by lot, one of each concept, PER_VENDOR of a vendor at most; all of the concepts in `first`."""
    kept: list[Drawing] = []
    for drawing in sorted(found, key=lambda d: (d.slug not in first, lot(f"{d.vendor}/{d.slug}"))):
        mine = sum(other.vendor == drawing.vendor for other in kept)
        repeated = drawing.slug not in first and any(other.slug == drawing.slug for other in kept)
        if len(kept) < count and mine < PER_VENDOR and not repeated:
            kept.append(drawing)
    return sorted(kept, key=lambda d: (d.vendor, d.slug))


def by_split(found: list[Drawing], split: str) -> list[Drawing]:
    with (DATA / "pictures.csv").open(newline="") as file:
        chosen = {(row["vendor"], row["slug"]) for row in csv.DictReader(file) if row["split"] == split}
    return [drawing for drawing in found if (drawing.vendor, drawing.slug) in chosen]


def on(background: tuple[int, int, int], picture: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture).convert("RGB")


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- held-out pictures ------------------------------------------------------------------------------------------------


def write_held_out(found: list[Drawing], folder: Path) -> None:
    """vendor--slug.png on white, and labels.csv."""
    all_names = load_names()
    rows = []
    for drawing in tqdm(found, desc="held out"):
        large = (
            drawing.slug in FAMILIAR.split()
            or lot(f"large {drawing.vendor}/{drawing.slug}") % HELD_OUT < HELD_OUT_LARGE // 2
        )
        file = f"{drawing.vendor}--{drawing.slug}.png"
        on((255, 255, 255), render(drawing.svg, LARGE_SIDE if large else SIDE)).save(folder / file, optimize=True)
        rows.append(
            [file, drawing.slug, drawing.vendor, *(all_names[drawing.slug][lang] for lang in ("en", "es", "zh"))]
        )
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file_out:
        writer = csv.writer(file_out, lineterminator="\n")
        writer.writerow(("file", "slug", "vendor", "name_en", "name_es", "name_zh"))
        writer.writerows(rows)


# --- calibration ------------------------------------------------------------------------------------------------------


def background_of(drawing: Drawing) -> tuple[int, int, int]:
    """White for three in four, any colour for the rest: activation ranges must cover both."""
    number = lot(f"background {drawing.vendor}/{drawing.slug}")
    if number % 4:
        return 255, 255, 255
    red, green, blue = colorsys.hsv_to_rgb(number % 997 / 997, number % 89 / 89, 0.4 + 0.6 * (number % 101 / 101))
    return round(255 * red), round(255 * green), round(255 * blue)


def write_calibration_pictures(found: list[Drawing], folder: Path) -> None:
    for drawing in tqdm(found, desc="calibration"):
        picture = on(background_of(drawing), render(drawing.svg, CALIBRATION_SIDE))
        picture.save(folder / f"{drawing.vendor}--{drawing.slug}.png", optimize=True)


def calibration_texts() -> Iterator[str]:
    """Names, names in templates, tags, some in upper case, some far too long: each kind in every language."""
    by_language = {lang: [s.text for s in names() if s.language == lang] for lang in LANGUAGES}
    tags_by_language = {lang: [s.text for s in tags() if s.language == lang] for lang in LANGUAGES}
    for number in range(TEXTS):
        language = LANGUAGES[number % len(LANGUAGES)]
        known, words = by_language[language], tags_by_language[language]
        name, template = known[lot(f"name {number}") % len(known)], TEMPLATES[language][number % 3]
        kind = number // len(LANGUAGES) % 10
        if kind in (4, 5, 6):
            yield template.format(name)
        elif kind == 7:
            yield words[lot(f"tag {number}") % len(words)]
        elif kind == 8:
            yield name.upper()
        elif kind == 9:
            yield " ".join([name, *(words[lot(f"word {number} {turn}") % len(words)] for turn in range(12))])
        else:
            yield name


# --- attribution ------------------------------------------------------------------------------------------------------


def attribution(vendors: list[Vendor]) -> str:
    rows = [f"| {v.name} | `{v.spec}` | {v.author} | {v.licence} |" for v in vendors]
    head = ["| vendor (first part of a file's name) | npm package | author | licence |", "|---|---|---|---|"]
    note = "The drawings were rendered to PNG by `demo/fixtures.py`; nothing else was changed but size and background."
    return "\n".join(["# Whose drawings these are", "", *head, *rows, "", note, ""])


def main() -> None:
    _, found = collect()
    makers = [vendor for vendor in VENDORS if vendor.part is Part.SPLIT]
    held_out = drawn(by_split(found, "heldout"), HELD_OUT, first=frozenset(FAMILIAR.split()))
    ours = [d for d in by_split(found, "train") if d.vendor in {vendor.name for vendor in makers}]
    calibration = drawn(ours, CALIBRATION)
    write_held_out(held_out, fresh(HERE / "heldout"))
    write_calibration_pictures(calibration, fresh(HERE / "calibration"))
    for folder in (HERE / "heldout", HERE / "calibration"):
        (folder / "ATTRIBUTION.md").write_text(attribution(makers), encoding="utf-8")
    (HERE / "calibration" / "texts.txt").write_text("\n".join(calibration_texts()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
