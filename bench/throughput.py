"""Closed-loop load on a real server of one model: rates, latencies and the kernel's own memory figures.

    python -m bench.throughput MODEL [--against CHECKPOINT] [--photos DIR] [--clients 8] [--seconds 15] [--rounds 3]

Clients send one photograph or one text a request, each text different, the cache off. Everything runs on this
machine, so a client's own work (an HTTP request and its base64) is part of the figures. With --against, a server of
PyTorch and FastAPI (bench/baseline.py) of the same checkpoint takes turns with ours, and ratios are reported.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.healthcheck import is_ready

_WARM_UP_S = 2.0

Payload = Callable[[int], dict[str, object]]
"""Request number -> JSON body."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    start_s: float
    """Seconds from process start to the first 200 of /health/ready."""

    def post(self, connection: http.client.HTTPConnection, body: dict[str, object]) -> None:
        connection.request("POST", "/v1/embeddings", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            sys.exit(f"{answer.status}: {text[:300]!r}")

    def memory_mb(self) -> dict[str, float]:
        """Pss, private and anonymous memory of all its processes, from /proc/*/smaps_rollup."""
        totals: dict[str, float] = {}
        for pid in [self.pid, *_children(self.pid)]:
            for name, kilobytes in re.findall(
                r"^(\w+):\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE
            ):
                totals[name] = totals.get(name, 0.0) + int(kilobytes) / 1024
        private = totals["Private_Clean"] + totals["Private_Dirty"]
        return {"resident": totals["Rss"], "pss": totals["Pss"], "private": private, "anonymous": totals["Anonymous"]}


@contextmanager
def serving(model: Path, **settings: str) -> Iterator[Server]:
    """A real gunicorn on a free loopback port, stopped at the end."""
    fixed = {"MODEL": str(model), "LOG_LEVEL": "error", "EMBEDDING_CACHE_SIZE": "0"}
    with _running([str(Path(sys.executable).with_name("siglip-edge")), "serve"], fixed | settings) as server:
        yield server


@contextmanager
def baseline(checkpoint: Path) -> Iterator[Server]:
    """PyTorch behind FastAPI, of the same weights."""
    with _running([sys.executable, "-m", "bench.baseline"], {"MODEL": str(checkpoint)}) as server:
        yield server


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **environment, "PORT": str(port)})
    try:
        while not is_ready(port):
            if process.poll() is not None:
                sys.exit(f"{command}: stopped with status {process.returncode}")
            time.sleep(0.02)
        yield Server(port, process.pid, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait()


def load(server: Server, payload: Payload, clients: int, seconds: float) -> list[float]:
    """Run `clients` closed loops for `seconds`; -> the latencies, in seconds, of the requests that ended in time."""
    numbers, latencies, ending = itertools.count(), [], time.monotonic() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        while (started := time.monotonic()) < ending:
            server.post(connection, payload(next(numbers)))
            latencies.append(time.monotonic() - started)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def photo_payload(photos: Path) -> Payload:
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in sorted(photos.glob("*.jpg"))]
    if not encoded:
        sys.exit(f"{photos}: no photographs (*.jpg) here; give a folder with --photos")
    return lambda number: {"input": {"image": encoded[number % len(encoded)]}, "encoding_format": "base64"}


def text_payload(number: int) -> dict[str, object]:
    return {"input": f"photograph number {number} of a cat on a chair", "encoding_format": "base64"}


def describe(latencies: list[float], seconds: float) -> str:
    cuts = statistics.quantiles(latencies, n=100)
    p50, p99 = 1000 * cuts[49], 1000 * cuts[98]
    return f"{len(latencies) / seconds:8.1f}/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms"


def compare(
    servers: dict[str, Server], payload: Payload, clients: int, seconds: float, rounds: int
) -> dict[str, float]:
    """Let the servers take turns, so that the machine's drift meets all of them; -> requests a second by server."""
    latencies: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():
        load(server, payload, clients, _WARM_UP_S)
    for _ in range(rounds):
        for name, server in servers.items():
            latencies[name] += load(server, payload, clients, seconds / rounds)
    for name, values in latencies.items():
        print(f"  {name:12} {describe(values, seconds)}")
    return {name: len(values) / seconds for name, values in latencies.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--against", type=Path, help="checkpoint for the PyTorch server")
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    payloads = {"images": photo_payload(arguments.photos), "texts": text_payload}
    with ExitStack() as stack:
        servers = {"siglip-edge": stack.enter_context(serving(arguments.model.resolve()))}
        if arguments.against:
            servers["pytorch"] = stack.enter_context(baseline(arguments.against.resolve()))
        for name, payload in payloads.items():
            print(f"{name}, {arguments.clients} clients")
            rates = compare(servers, payload, arguments.clients, arguments.seconds, arguments.rounds)
            if arguments.against:
                print(f"  ratio        {rates['siglip-edge'] / rates['pytorch']:8.2f}")
        for name, server in servers.items():
            memory = ", ".join(f"{kind} {value:.0f}" for kind, value in server.memory_mb().items())
            print(f"{name}: ready after {server.start_s:.2f} s; memory in MB: {memory}")


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
