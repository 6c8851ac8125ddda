"""What the server adds to inference: a cached text's rate, an image request's stages, texts beside a pile of images.

    python -m bench.overhead MODEL [--photos DIR] [--seconds 6]

One worker, everything on this machine. Every image is sent as different bytes (a JPEG ignores what follows its end),
so that nothing is answered from the cache or computed once for several.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import re
import statistics
import threading
import time
from pathlib import Path

from bench.throughput import Payload, Server, load, serving

_IMAGE_CLIENTS = 4
STAGES = ("decode", "queue", "inference", "total")


def distinct_photos(photos: Path) -> Payload:
    """Request number n -> photograph n modulo their count, with n behind its last byte."""
    files = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    return lambda number: {
        "input": {"image": base64.b64encode(files[number % len(files)] + number.to_bytes(8)).decode()},
        "encoding_format": "base64",
    }


def cached_text(server: Server, seconds: float) -> str:
    def payload(_number: int) -> dict[str, object]:
        return {"input": "a cat on a sofa", "encoding_format": "base64"}

    rates = {clients: len(load(server, payload, clients, seconds)) / seconds for clients in (1, 4)}
    return ", ".join(f"{rate:.0f} requests/s with {clients} clients" for clients, rate in rates.items())


def image_stages(server: Server, payload: Payload, count: int = 200) -> dict[str, float]:
    """Median milliseconds of every stage, one client, from the Server-Timing header."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    seen: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(count):
        body = json.dumps(payload(number))
        connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        timing = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.getheader("Server-Timing", "")))
        for stage in STAGES:
            seen[stage].append(float(timing.get(stage, 0.0)))
    return {stage: statistics.median(values) for stage, values in seen.items()}


def texts_beside_images(server: Server, payload: Payload, seconds: float) -> str:
    """One text client alone, then beside image clients; and what the texts cost the images."""
    numbers = itertools.count()

    def text(_number: int) -> dict[str, object]:
        return {"input": f"text {next(numbers)}", "encoding_format": "base64"}

    alone = load(server, text, 1, seconds)
    images_alone = load(server, _from(1_000_000, payload), _IMAGE_CLIENTS, seconds)
    images: list[float] = []
    beside = threading.Thread(
        target=lambda: images.extend(load(server, _from(2_000_000, payload), _IMAGE_CLIENTS, seconds))
    )
    beside.start()
    time.sleep(0.2)  # the pile is there before the first text
    together = load(server, text, 1, seconds - 0.2)
    beside.join()
    return (
        f"text p50 {_ms(alone, 50)} -> {_ms(together, 50)} ms, p95 {_ms(alone, 95)} -> {_ms(together, 95)} ms; "
        f"images {len(images_alone) / seconds:.1f} -> {len(images) / seconds:.1f}/s "
        f"beside {len(together) / seconds:.1f} texts/s"
    )


def _from(first: int, payload: Payload) -> Payload:
    """The same payloads with other numbers: bytes that nothing has sent before."""
    return lambda number: payload(first + number)


def _ms(latencies: list[float], percentile: int) -> str:
    return f"{1000 * statistics.quantiles(latencies, n=100)[percentile - 1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    payload = distinct_photos(arguments.photos)
    with serving(arguments.model.resolve(), EMBEDDING_CACHE_SIZE="16M") as server:
        print(f"cached text: {cached_text(server, arguments.seconds)}")
        stages = image_stages(server, payload)
        outside = 1 - stages["inference"] / stages["total"]
        shown = ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())
        print(f"image request, median ms: {shown}; {outside:.0%} outside inference")
        print(f"texts beside {_IMAGE_CLIENTS} image clients: {texts_beside_images(server, payload, arguments.seconds)}")


if __name__ == "__main__":
    main()
