"""Memory and start-up of a model directory: each tower, packed and not, in one process and in several.

    python -m siglip_edge.bench.memory MODEL_DIRECTORY [--precision int4] [--processes 2] [--rows 40]
        [--cache DIRECTORY]

Every line describes one process. The kernel reports its memory after `rows` texts and pictures, while all processes are
alive: memory that they share counts once in the sum of their Pss, and is private in none of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import product
from pathlib import Path

TOWERS = (("text",), ("vision",), ("vision", "text"))


def serve(arguments: argparse.Namespace) -> None:
    """In a child process: load the model, embed, wait for the other processes, and print the figures."""
    from PIL import Image

    from siglip_edge.runtime.artifacts.manifest import Precision, Tower
    from siglip_edge.runtime.execution.plan import Wishes
    from siglip_edge.runtime.machine.memory import read_memory
    from siglip_edge.runtime.open_model import open_model

    directory, towers, started = arguments.directory, arguments.serve, arguments.started
    wishes = Wishes(device="cpu", precision=Precision(arguments.precision) if arguments.precision else None)
    imported, loading = time.time() - started, time.time()
    model = open_model(directory, wishes, towers=[Tower(tower) for tower in towers], cache=arguments.cache)
    loaded = time.time() - loading
    picture = Image.effect_noise((640, 480), 80)
    runs = {"text": lambda: model.embed_texts(["a photo of a cat"]), "vision": lambda: model.embed_images([picture])}
    for tower in towers:
        runs[tower]()
    figures = {"import_s": imported, "load_s": loaded, "first_s": time.time() - started}
    for _, tower in product(range(arguments.rows), towers):
        runs[tower]()
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(figures | {f"{name}_mb": size / 1e6 for name, size in asdict(read_memory()).items()}), flush=True)
    sys.stdin.readline()


def measure(
    arguments: argparse.Namespace, towers: tuple[str, ...], count: int, cache: Path | None
) -> list[dict[str, float]]:
    """Measure `count` processes at once. -> the figures of each."""
    command = [sys.executable, "-m", "siglip_edge.bench.memory", str(arguments.directory), "--serve", *towers]
    command += ["--rows", str(arguments.rows), *(["--cache", str(cache)] if cache else [])]
    command += ["--precision", arguments.precision] if arguments.precision else []
    pipe = subprocess.PIPE
    children = [
        subprocess.Popen([*command, "--started", str(time.time())], stdin=pipe, stdout=pipe, text=True)
        for _ in range(count)
    ]
    for child in children:
        assert child.stdout
        if child.stdout.readline() != "ready\n":
            sys.exit("a child process failed; its error is printed above")
    figures = []
    for child in children:
        assert child.stdin
        assert child.stdout
        print(file=child.stdin, flush=True)
        figures.append(json.loads(child.stdout.readline()))
    for child in children:
        child.communicate("\n")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--precision", help="which artifacts  [default: the preferred ones]")
    parser.add_argument("--processes", type=int, default=2, help="most processes at once")
    parser.add_argument("--rows", type=int, default=40, help="texts and pictures that each embeds, one by one")
    parser.add_argument("--cache", type=Path, help="directory for packed graphs  [default: a new one]")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    with tempfile.TemporaryDirectory() as new:
        cache = arguments.cache or Path(new)
        measure(arguments, ("vision", "text"), 1, cache)  # packs the graphs
        for towers, count, place in product(TOWERS, range(1, arguments.processes + 1), (None, cache)):
            for figures in measure(arguments, towers, count, place):
                what = f"{'+'.join(towers):12} {'packed' if place else 'unpacked':8} {count} at once"
                print(what, *(f"{key} {value:.{2 if key.endswith('_s') else 0}f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
