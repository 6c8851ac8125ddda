"""The work of the server besides inference: rate of a cached text, stages of image requests, texts beside images.

    python -m siglip_edge.bench.overhead MODEL [--photos DIR] [--seconds 6]

`siglip-edge bench` does not have these figures. One worker; the clients run on the same machine. Every image request
has different bytes (JPEG decoders ignore bytes after the end), so the cache answers none of them.
"""

from __future__ import annotations

import argparse
import http.client
import re
import statistics
import threading
from itertools import count
from pathlib import Path

from siglip_edge.bench.bodies import body_of
from siglip_edge.bench.load import Load, Work, run_for
from siglip_edge.bench.results import percentile
from siglip_edge.bench.servers import PATH, Server, serving

_IMAGE_CLIENTS = 4
_WARM_UP_S = 0.5
STAGES = ("decode", "queue", "inference", "total")


def cached_text(server: Server, seconds: float) -> str:
    work = Work(server.port, "same", None, 0)
    rates = {clients: run_for(work, clients, seconds, _WARM_UP_S).rate for clients in (1, 4)}
    return ", ".join(f"{rate:.0f} requests/s with {clients} clients" for clients, rate in rates.items())


def image_stages(server: Server, photos: Path, requests: int = 200) -> dict[str, float]:
    """-> stage -> median milliseconds, with one client, from the header Server-Timing."""
    connection, body = http.client.HTTPConnection("127.0.0.1", server.port), body_of("images", photos)
    seen: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(requests):
        connection.request("POST", PATH, body(number), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.getheader("Server-Timing", "")))
        for stage in STAGES:
            seen[stage].append(float(timing.get(stage, 0.0)))
    return {stage: statistics.median(values) for stage, values in seen.items()}


def texts_beside_images(server: Server, photos: Path, seconds: float) -> str:
    """Measure a text client and image clients, each alone and then together. -> one line of figures."""
    firsts = count(1_000_000, 1_000_000)  # first numbers of inputs that were not sent before

    def load(kind: str, clients: int) -> Load:
        return run_for(Work(server.port, kind, photos, next(firsts)), clients, seconds, _WARM_UP_S)

    alone, images_alone = load("texts", 1), load("images", _IMAGE_CLIENTS)
    images: list[Load] = []
    beside = threading.Thread(target=lambda: images.append(load("images", _IMAGE_CLIENTS)))
    beside.start()
    together = load("texts", 1)
    beside.join()
    return (
        f"text p50 {_ms(alone, 50)} -> {_ms(together, 50)} ms, p95 {_ms(alone, 95)} -> {_ms(together, 95)} ms; "
        f"images {images_alone.rate:.1f} -> {images[0].rate:.1f}/s beside {together.rate:.1f} texts/s"
    )


def _ms(load: Load, share: float) -> str:
    return f"{1000 * percentile(load.latencies, share):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    with serving(arguments.model, EMBEDDING_CACHE_BYTES="16M") as server:
        print(f"cached text: {cached_text(server, arguments.seconds)}")
        stages = image_stages(server, arguments.photos)
        outside = 1 - stages["inference"] / stages["total"]
        shown = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
        print(f"image request, median ms: {shown}; {outside:.0%} outside inference")
        print(
            f"texts beside {_IMAGE_CLIENTS} image clients: "
            f"{texts_beside_images(server, arguments.photos, arguments.seconds)}"
        )


if __name__ == "__main__":
    main()
