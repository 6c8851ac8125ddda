"""Download the drawings and names, join them by emoji, render them, and split them. Run: `python -m demo.prepare`.

Writes demo/names.json (shipped) and, under demo/.data (not shipped), pictures.npy and pictures.csv.
Everything is a function of the pinned packages: two runs write the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from fontTools.pens.svgPathPen import SVGPathPen
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from demo.pictures import DATA, HERE, LANGUAGES
from demo.vendors import NAMES, VENDORS, Part, Vendor

SIDE = 64  # pixels: what the image tower sees
RENDER_SIDE = 128  # rendered at twice that, then shrunk by Pillow as the server will shrink an upload
HELD_OUT_IN = 10  # one picture in this many is never trained on
COMPONENT_GROUP = 2  # skin tones and hair styles on their own: no pictures of things
SAME_PICTURE = 1.0  # mean absolute difference, in 1/255, below which two pictures are one drawing


@dataclass(frozen=True)
class Concept:
    """One emoji without its skin tones: the English CLDR label's slug, its code points, names and tags by language."""

    slug: str
    hexcode: str
    names: dict[str, str]
    tags: dict[str, list[str]]


@dataclass(frozen=True)
class Drawing:
    """One vendor's SVG of one concept."""

    vendor: str
    slug: str
    svg: str


# --- packages ---------------------------------------------------------------------------------------------------------


def fetch(vendor: Vendor) -> Path:
    """Download and unpack one npm package once; refuse it if it does not carry the licence we rely on."""
    folder = DATA / "packages" / vendor.spec.replace("/", "_")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", vendor.spec],
            cwd=folder.parent,
            check=True,
            capture_output=True,
            text=True,
        )
        with tarfile.open(folder.parent / packed.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
    stated = json.loads((folder / "package" / "package.json").read_text())["license"]
    if stated != vendor.licence:
        raise ValueError(f"{vendor.spec} states licence {stated}, expected {vendor.licence}: check it before training")
    return folder / "package"


# --- concepts ---------------------------------------------------------------------------------------------------------


def slug_of(label: str) -> str:
    """A CLDR label as icon packages spell it: "flag: Côte d'Ivoire" -> "flag-cote-divoire"."""
    spelled = label.lower().replace("&", " and ").replace("#", "hash").replace("*", "asterisk")
    ascii_only = unicodedata.normalize("NFKD", re.sub("['’]", "", spelled)).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]+", "-", ascii_only).strip("-")


def plain_hex(hexcode: str) -> str:
    """Code points without the variation selector, which vendors write or leave out as they like."""
    return hexcode.upper().replace("-FE0F", "")


def load_concepts(package: Path) -> list[Concept]:
    """All emoji but bare components, in CLDR order."""
    records = {lang: json.loads((package / lang / "data.json").read_text()) for lang in LANGUAGES}
    by_hex = {lang: {record["hexcode"]: record for record in records[lang]} for lang in LANGUAGES}
    wanted = [record for record in records["en"] if record.get("group", COMPONENT_GROUP) != COMPONENT_GROUP]
    wanted.sort(key=lambda record: int(record["order"]))
    return [_concept(record["hexcode"], by_hex) for record in wanted]


def _concept(hexcode: str, by_hex: dict[str, dict[str, Any]]) -> Concept:
    names = {lang: by_hex[lang][hexcode]["label"] for lang in LANGUAGES}
    tags = {lang: by_hex[lang][hexcode].get("tags", []) for lang in LANGUAGES}
    return Concept(slug_of(names["en"]), plain_hex(hexcode), names, tags)


# --- joining pictures to concepts -------------------------------------------------------------------------------------


def icon_table(package: Path) -> dict[str, Any]:
    """Iconify's icons.json: {"icons": {name: {"body"}}, "aliases": {name: {"parent"}}, "width", "height"}."""
    table: dict[str, Any] = json.loads((package / "icons.json").read_text())
    return table


def spellings(name: str) -> Iterator[str]:
    """The ways vendors write one name, compared without hyphens (fxemoji writes none)."""
    tight = name.replace("-", "")
    yield tight
    yield re.sub("^flagfor(flag)?", "flag", tight)


def known_names(concepts: list[Concept], packages: dict[str, Path]) -> dict[str, str]:
    """{spelling: slug}: today's labels first, then older names that some vendor or shortcode table has."""
    slug_by_hex = {concept.hexcode: concept.slug for concept in concepts}
    known = {concept.slug.replace("-", ""): concept.slug for concept in concepts}
    for name, hexcode in [*_vendor_names(packages), *_shortcodes(packages[NAMES.name])]:
        slug = slug_by_hex.get(plain_hex(hexcode))
        if slug:
            known.setdefault(name.replace("-", ""), slug)
    return known


def _vendor_names(packages: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """(icon name or alias, code points) from the vendors that list code points themselves."""
    for vendor in ("twemoji", "noto", "openmoji", "fluent-emoji-flat"):
        hex_by_name = {name: code for code, name in json.loads((packages[vendor] / "chars.json").read_text()).items()}
        yield from hex_by_name.items()
        for alias, entry in icon_table(packages[vendor]).get("aliases", {}).items():
            if entry["parent"] in hex_by_name and not entry.keys() & {"hFlip", "vFlip", "rotate"}:
                yield alias, hex_by_name[entry["parent"]]


def _shortcodes(package: Path) -> Iterator[tuple[str, str]]:
    for table in ("cldr", "joypixels", "emojibase", "iamcal", "github"):
        for hexcode, codes in json.loads((package / "en" / "shortcodes" / f"{table}.json").read_text()).items():
            for code in [codes] if isinstance(codes, str) else codes:
                yield code.replace("_", "-"), hexcode


def drawings(vendor: Vendor, package: Path, concepts: list[Concept], known: dict[str, str]) -> list[Drawing]:
    """At most one drawing a concept, in concept order."""
    if vendor.name == "noto-font":
        found = dict(_font_drawings(package, concepts))
    elif vendor.part is Part.TRAIN_ONLY:
        found = dict(_flag_drawings(package, concepts))
    else:
        found = dict(_icon_drawings(package, concepts, known))
    return [Drawing(vendor.name, c.slug, found[c.slug]) for c in concepts if c.slug in found]


def _icon_drawings(package: Path, concepts: list[Concept], known: dict[str, str]) -> Iterator[tuple[str, str]]:
    table = icon_table(package)
    slug_by_hex = {concept.hexcode: concept.slug for concept in concepts}
    by_code = {
        name: slug_by_hex.get(plain_hex(code))
        for code, name in json.loads((package / "chars.json").read_text()).items()
    }
    # Loosest match first: what comes later wins, so an exact code point beats a name, and a name beats an old name.
    for name in sorted(table["icons"], key=lambda n: _match_rank(n, by_code, known)):
        slug = by_code.get(name) or next((known[s] for s in spellings(name) if s in known), None)
        if slug:
            yield slug, svg_of(table, name)


def _match_rank(name: str, by_code: dict[str, str | None], known: dict[str, str]) -> tuple[bool, bool, str]:
    tight = name.replace("-", "")
    return bool(by_code.get(name)), known.get(tight, "").replace("-", "") == tight, name


def svg_of(table: dict[str, Any], name: str) -> str:
    """A standalone SVG; `currentColor` icons come out black."""
    icon = table["icons"][name]
    width, height = (icon.get(key, table.get(key, 16)) for key in ("width", "height"))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" color="#000">{icon["body"]}</svg>'


def _flag_drawings(package: Path, concepts: list[Concept]) -> Iterator[tuple[str, str]]:
    """Flag sets name their icons by country code: two regional indicators spell it."""
    table = icon_table(package)
    for concept in concepts:
        points = [int(point, 16) for point in concept.hexcode.split("-")]
        if len(points) == 2 and all(0x1F1E6 <= point <= 0x1F1FF for point in points):
            code = "".join(chr(point - 0x1F1E6 + ord("a")) for point in points)
            for name in (code, f"{code}-4x3"):  # flagpack and flag spell them so
                if name in table["icons"]:
                    yield concept.slug, svg_of(table, name)


def _font_drawings(package: Path, concepts: list[Concept]) -> Iterator[tuple[str, str]]:
    """The outline font's glyphs of single code points."""
    font = TTFont(package / "files" / "noto-emoji-emoji-400-normal.woff")
    glyphs, characters, em = font.getGlyphSet(), font.getBestCmap(), font["head"].unitsPerEm
    for concept in concepts:
        if "-" not in concept.hexcode and int(concept.hexcode, 16) in characters:
            glyph = glyphs[characters[int(concept.hexcode, 16)]]
            pen = SVGPathPen(glyphs)
            glyph.draw(pen)
            side = max(glyph.width, em)
            box = f"{(glyph.width - side) / 2:.0f} {-0.8 * side:.0f} {side} {side}"
            path = f'<path transform="scale(1 -1)" d="{pen.getCommands()}"/>'
            yield concept.slug, f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{path}</svg>'


# --- pictures ---------------------------------------------------------------------------------------------------------


def render(svg: str, side: int) -> Image.Image:
    """SVG -> RGBA picture, `side` pixels wide (icons that are not square keep their shape)."""
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def render_small(drawing: Drawing) -> NDArray[np.uint8]:
    """Drawing -> (SIDE, SIDE, 4) uint8, squashed to the square by the server's own filter."""
    return np.asarray(render(drawing.svg, RENDER_SIDE).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def on_white(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., 4) RGBA uint8 -> (..., 3) RGB uint8 over white."""
    colour, alpha = pictures[..., :3].astype(np.uint16), pictures[..., 3:].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def split_of(vendor: Vendor, slug: str) -> str:
    """train, heldout or unseen; a hash draws the held-out tenth, so that it never depends on order."""
    if vendor.part is not Part.SPLIT:
        return "unseen" if vendor.part is Part.UNSEEN else "train"
    draw = int.from_bytes(hashlib.sha256(f"{vendor.name}/{slug}".encode()).digest()[:8])
    return "heldout" if draw % HELD_OUT_IN == 0 else "train"


def without_leaks(pictures: NDArray[np.uint8], splits: list[str]) -> list[str]:
    """Held-out pictures that are also a training picture's drawing (vendors share some flags) become training ones."""
    small = (
        on_white(pictures).reshape(len(pictures), 16, SIDE // 16, 16, SIDE // 16, 3).mean(axis=(2, 4), dtype=np.float32)
    )
    flat = small.reshape(len(pictures), -1)
    train = flat[[split == "train" for split in splits]]
    return [
        "train" if s == "heldout" and np.abs(train - row).mean(axis=1).min() < SAME_PICTURE else s
        for s, row in zip(splits, flat, strict=True)
    ]


# --- output -----------------------------------------------------------------------------------------------------------


def write_names(concepts: Iterable[Concept], path: Path) -> None:
    """One concept a line, so that a diff shows which name changed."""
    lines = [f"{json.dumps(c.slug)}: {json.dumps(c.names, ensure_ascii=False)}" for c in concepts]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_index(found: list[Drawing], splits: list[str], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("vendor", "slug", "split"))
        writer.writerows((d.vendor, d.slug, split) for d, split in zip(found, splits, strict=True))


def collect() -> tuple[list[Concept], list[Drawing]]:
    """Download everything and join it."""
    packages = {vendor.name: fetch(vendor) for vendor in tqdm((NAMES, *VENDORS), desc="packages")}
    concepts = load_concepts(packages[NAMES.name])
    known = known_names(concepts, packages)
    return concepts, [d for v in VENDORS for d in drawings(v, packages[v.name], concepts, known)]


def report(found: list[Drawing], splits: list[str]) -> None:
    for vendor in VENDORS:
        mine = [split for d, split in zip(found, splits, strict=True) if d.vendor == vendor.name]
        print(f"{vendor.name:28}{len(mine):6} pictures, {mine.count('heldout'):4} held out   {vendor.licence}")
    print({split: splits.count(split) for split in sorted(set(splits))})


def main() -> None:
    concepts, found = collect()
    with ProcessPoolExecutor() as pool:
        rendered = list(tqdm(pool.map(render_small, found, chunksize=64), total=len(found), desc="render"))
    pictures = np.stack(rendered)
    by_name = {vendor.name: vendor for vendor in VENDORS}
    splits = without_leaks(pictures, [split_of(by_name[d.vendor], d.slug) for d in found])
    np.save(DATA / "pictures.npy", pictures)
    write_index(found, splits, DATA / "pictures.csv")
    write_names(concepts, HERE / "names.json")
    tags = {c.slug: c.tags for c in concepts}
    (DATA / "tags.json").write_text(json.dumps(tags, ensure_ascii=False), encoding="utf-8")
    report(found, splits)


if __name__ == "__main__":
    main()
