"""Models of several families in one server under mixed load: right answers, seconds per request, memory.

    python -m siglip_edge.bench.families NAME=DIRECTORY [NAME=DIRECTORY ...]
        [--seconds 20] [--clients 4] [--long-words 0] [--photos DIRECTORY]

First each model answers alone: its vectors are the reference, its seconds per request the comparison. Then one server
has all models, and `clients` clients per model ask at the same time. Every vector is compared bit by bit with that of
the model alone. `--long-words`: one more client per model sends texts of so many words.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import threading
import time
import urllib.request
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image

from siglip_edge.bench.results import percentile
from siglip_edge.bench.servers import Server, serving

_SENTENCE = "a photo of two cats on the grass while it rains over a quiet town near the old harbour at night"
WORDS = _SENTENCE.split()
_SETTINGS = {"EMBEDDING_CACHE_SIZE": "0", "LOG_LEVEL": "error", "REQUEST_TIMEOUT": "600", "MAX_TEXT_CHARS": "1000000"}


@dataclass
class Load:
    """The inputs of one model, its vectors alone, and what its clients measured."""

    name: str
    inputs: list[str]
    long: list[str]
    alone: dict[str, array[float]] = field(default_factory=dict)
    alone_s: list[float] = field(default_factory=list)
    mixed_s: list[float] = field(default_factory=list)
    long_s: list[float] = field(default_factory=list)
    wrong: int = 0


def texts(count: int, words: int) -> list[str]:
    """Different texts of 1 to `words` words."""
    return [
        " ".join(WORDS[(number + step * step) % len(WORDS)] for step in range(1 + number * words // count))
        for number in range(count)
    ]


def pictures(photos: Path | None, count: int = 12) -> list[str]:
    if photos is not None:
        files = sorted(photos.glob("*.jpg"))[:count]
        return ["data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode() for file in files]
    found = []
    for number in range(count):
        buffer = BytesIO()
        Image.effect_noise((320, 240), 20 + 10 * number).convert("RGB").save(buffer, "PNG")
        found.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return found


def facts(server: Server, path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def embed(server: Server, model: str, given: str) -> array[float]:
    return server.embed(json.dumps({"model": model, "input": given, "encoding_format": "base64"}).encode())


def measure_alone(directory: Path, load: Load, photos: Path | None) -> None:
    with serving(directory, MODELS=f"{load.name}={directory}", **_SETTINGS) as server:
        card = facts(server, f"/v1/models/{load.name}")
        kinds = {"text": texts(40, 16), "image": pictures(photos)}
        load.inputs = [one for kind in card["modalities"] for one in kinds[kind]]  # type: ignore[attr-defined]
        for given in [*load.inputs, *load.long]:
            started = time.monotonic()
            load.alone[given] = embed(server, load.name, given)
            if given not in load.long:
                load.alone_s.append(time.monotonic() - started)
        megabytes = sum(one.pss for one in server.memory())
    print(f"{load.name} alone: {_percentiles(load.alone_s)}, {megabytes:.0f} MB")


def ask(server: Server, load: Load, inputs: Sequence[str], end: float) -> list[float]:
    """A client: one request after the other until `end`. -> seconds of each."""
    seconds = []
    for given in itertools.cycle(inputs):
        if (started := time.monotonic()) >= end:
            break
        load.wrong += embed(server, load.name, given) != load.alone[given]
        seconds.append(time.monotonic() - started)
    return seconds


def measure_together(models: dict[str, Path], loads: list[Load], clients: int, seconds: float) -> None:
    listed = ",".join(f"{name}={directory}" for name, directory in models.items())
    with serving(next(iter(models.values())), MODELS=listed, **_SETTINGS) as server:
        for load in loads:
            embed(server, load.name, load.inputs[0])
        end, peak, done = time.monotonic() + seconds, 0.0, threading.Event()
        with ThreadPoolExecutor(len(loads) * (clients + 1)) as pool:
            mixed = {
                pool.submit(ask, server, load, load.inputs[7 * client :] + load.inputs[: 7 * client], end): load
                for load in loads
                for client in range(clients)
            }
            long = {pool.submit(ask, server, load, load.long, end): load for load in loads if load.long}
            while not all(future.done() for future in (*mixed, *long)):
                peak = max(peak, sum(one.pss for one in server.memory()))
                done.wait(0.5)
        for future, load in mixed.items():
            load.mixed_s += future.result()
        for future, load in long.items():
            load.long_s += future.result()
        limit = facts(server, "/health")["batch_processing"]["max_concurrent_batches"]  # type: ignore[index]
    for load in loads:
        slow = f"; long texts: {_percentiles(load.long_s)}" if load.long_s else ""
        total = len(load.mixed_s) + len(load.long_s)
        print(
            f"{load.name} among all: {len(load.mixed_s) / seconds:.1f} requests/s, {_percentiles(load.mixed_s)}{slow}; "
            f"{load.wrong} of {total} vectors differ from those alone"
        )
    print(f"all in one server: {peak:.0f} MB at most, at most {limit} runs under way")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=DIRECTORY")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--long-words", type=int, default=0)
    parser.add_argument("--photos", type=Path)
    arguments = parser.parse_args()
    models = {name: Path(path).resolve() for name, _, path in (one.partition("=") for one in arguments.models)}
    long = [" ".join(WORDS * (arguments.long_words // len(WORDS) + 1))] if arguments.long_words else []
    loads = [Load(name, [], long) for name in models]
    for load in loads:
        measure_alone(models[load.name], load, arguments.photos)
    measure_together(models, loads, arguments.clients, arguments.seconds)


def _percentiles(seconds: Sequence[float]) -> str:
    in_ms = sorted(1000 * one for one in seconds)
    return f"p50 {percentile(in_ms, 50):.0f} ms, p95 {percentile(in_ms, 95):.0f} ms, worst {in_ms[-1]:.0f} ms"


if __name__ == "__main__":
    main()
