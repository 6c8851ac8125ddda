"""Measures models of the shapes that people run, and writes the figures of docs/models.md.

    python -m siglip_edge.bench.shapes [SHAPE ...] --photos DIRECTORY [--folder bench/.checkpoints/shapes]
        [--seconds 10] [--turns 3] [--results runtime/known_models/measured.json]

Without SHAPE, all. Each shape becomes a checkpoint with random weights and then a model directory in INT8, unless
`folder` has it already. The shapes take turns, in processes of their own; speeds are medians over the turns. Figures of
other shapes in `results` stay.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from siglip_edge.bench.alone import take_footprint
from siglip_edge.bench.bare import disk_mb, run_rows
from siglip_edge.bench.order import Effort, Order
from siglip_edge.bench.servers import serving
from siglip_edge.runtime.artifacts.manifest import MANIFEST, Manifest, Precision, Tower
from siglip_edge.runtime.known_models.table import Measured, Measurements
from siglip_edge.runtime.machine.cpu import read_cpu_budget

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "runtime/known_models/measured.json"
BASE = "google/siglip2-base-patch16-256"
BASE_SHAPE = "siglip2-b16-256"
_REQUESTS = 100
"""Before memory is read. A fixed number, because a tower that was not asked yet holds little memory."""


@dataclass(frozen=True)
class Shape:
    """Checkpoints of one shape have the same files, memory and speed."""

    models: tuple[str, ...]
    """Their ids in models.toml."""
    write: Callable[[Path], None]
    """Writes a checkpoint with random weights."""


def shapes() -> dict[str, Shape]:
    """Name -> shape. torch is imported here, and not by the processes that measure."""
    from siglip_edge.bench.checkpoint import OTHERS, SIZES, write_checkpoint

    base = SIZES["base"]
    patches, small = replace(base, patch=32), replace(base, image=224)
    return {
        BASE_SHAPE: Shape((BASE,), partial(write_checkpoint, size=base)),
        "siglip2-b32-256": Shape(("google/siglip2-base-patch32-256",), partial(write_checkpoint, size=patches)),
        "siglip2-b16-224": Shape(("google/siglip2-base-patch16-224",), partial(write_checkpoint, size=small)),
        **{name: Shape(models, partial(OTHERS[family], size="base")) for name, (family, models) in _OTHER.items()},
    }


_OTHER = {
    "clip-b32": ("clip", ("openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")),
    "chinese-clip-b16": ("chinese_clip", ("OFA-Sys/chinese-clip-vit-base-patch16",)),
    "siglip2-b16-naflex": ("naflex", ("google/siglip2-base-patch16-naflex",)),
    "minilm-l6": ("minilm", ("sentence-transformers/all-MiniLM-L6-v2",)),
    "mpnet": ("mpnet", ("sentence-transformers/all-mpnet-base-v2",)),
    "bge-m3": ("bge-m3", ("BAAI/bge-m3",)),
    "embeddinggemma": ("embeddinggemma", ("google/embeddinggemma-300m",)),
    "qwen3-0.6b": ("qwen3", ("Qwen/Qwen3-Embedding-0.6B",)),
}
"""Shape -> the family of bench/checkpoint.py that writes it in its size base, and its models."""


def model_directory(name: str, shape: Shape, folder: Path, photos: Path) -> Path:
    """-> the model directory of a shape, exported in INT8 without the search, unless it is there."""
    from siglip_edge.exporter.export import Order as ExportOrder
    from siglip_edge.exporter.export import export
    from siglip_edge.exporter.tower_export import MIN_MAX

    target, checkpoint = folder / "models" / name, folder / "checkpoints" / name
    if (target / MANIFEST).is_file():
        return target
    if not (checkpoint / "config.json").is_file():
        shape.write(checkpoint)
    return export(
        ExportOrder(
            source=str(checkpoint), output=target.parent, name=name, precisions=[Precision.INT8], ranges=MIN_MAX,
            calibration_images=photos, report=False,
        ),
        partial(_say, name),
    )  # fmt: skip


def _say(name: str, items: Iterable[Any], what: str) -> Iterable[Any]:
    print(f"{name}: {what}", file=sys.stderr)
    return items


def rates_here(directory: Path, photos: Path, seconds: float) -> dict[str, float]:
    """-> rows per second of each tower, in this process, without a server."""
    kinds = {Tower.VISION: "images", Tower.TEXT: "texts"}
    towers = [kinds[tower] for tower in Manifest.load(directory).tower_names]
    return {kind: run_rows(directory, kind, photos, seconds, clients=2).rate for kind in towers}


def rates(directory: Path, photos: Path, seconds: float) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "siglip_edge.bench.shapes", "--one", str(directory)]
    command += ["--photos", str(photos), "--seconds", str(seconds)]
    found: dict[str, float] = json.loads(subprocess.check_output(command, text=True))
    return found


def memory_at_rest(directory: Path, photos: Path) -> float:
    """-> megabytes of a server's processes together, after requests for every tower and a rest."""
    kind = "mixed" if Manifest.load(directory).towers.vision else "texts"
    order = Order(model=directory, photos=photos, effort=Effort(requests=_REQUESTS))
    footprint = take_footprint(lambda: serving(directory, WORKERS="1", EMBEDDING_CACHE_SIZE="0"), order, kind)
    return footprint.total("pss")


def measure(directories: Mapping[str, Path], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Shape -> its figures; the shapes take turns, so that a slow minute is everybody's."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in directories}
    for _, (name, directory) in product(range(arguments.turns), directories.items()):
        turns[name].append(rates(directory, arguments.photos, arguments.seconds))
        print(name, turns[name][-1], file=sys.stderr)
    return {name: figures(directories[name], turns[name], arguments.photos) for name in directories}


def figures(directory: Path, turns: Sequence[Mapping[str, float]], photos: Path) -> dict[str, float]:
    """The fields of `Measured` that are no ratios."""
    speeds = {f"{kind}_per_s": statistics.median(turn[kind] for turn in turns) for kind in turns[0]}
    memory_at_rest(directory, photos)  # a start that packs the graphs shows up to 60 MB less than every later one
    return {"files_mb": disk_mb(directory), "memory_mb": memory_at_rest(directory, photos)} | speeds


def measured(found: Mapping[str, float], base: Mapping[str, float]) -> Measured:
    """With the ratios to the base model, whose figures are of the same run."""
    ratios = {
        f"{kind}_ratio": found[f"{kind}_per_s"] / base[f"{kind}_per_s"]
        for kind in ("images", "texts")
        if f"{kind}_per_s" in found
    }
    rounded = {name: round(value, 2) for name, value in {**found, **ratios}.items()}
    return msgspec.convert({"weights": "random", **rounded}, Measured)


def written(results: Path, new: Mapping[str, Measured], machine: str, *, cores: float = 0, load: float = 0) -> None:
    """Put the figures into the file beside those of other models. `load`: of the machine when the run began."""
    before = msgspec.json.decode(results.read_bytes(), type=Measurements)
    models = dict(sorted({**before.models, **new}.items()))
    whole = msgspec.structs.replace(before, machine=machine, cores=cores, load=round(load, 1), base=BASE, models=models)
    results.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=ROOT / "bench/.checkpoints/shapes")
    parser.add_argument("--seconds", type=float, default=10.0, help="per turn and tower")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(rates_here(arguments.one, arguments.photos, arguments.seconds)))
        return
    known = shapes()
    if unknown := set(arguments.shapes) - set(known):
        parser.error(f"no shape {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    wanted = {name: known[name] for name in dict.fromkeys([BASE_SHAPE, *(arguments.shapes or known)])}
    directories = {
        name: model_directory(name, shape, arguments.folder, arguments.photos) for name, shape in wanted.items()
    }
    load, budget = os.getloadavg()[0], read_cpu_budget()
    found = measure(directories, arguments)
    new = {model: measured(found[name], found[BASE_SHAPE]) for name, shape in wanted.items() for model in shape.models}
    machine = f"{budget.describe()}, {' '.join(budget.isa)}"
    written(arguments.results, new, machine, cores=budget.cores, load=load)


if __name__ == "__main__":
    main()
