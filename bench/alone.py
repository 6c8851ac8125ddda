"""Each server by itself: its time to start, its memory, its CPU time when idle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from siglip_edge.bench.clients import Clients
from siglip_edge.bench.order import Effort, Order
from siglip_edge.bench.results import Footprint
from siglip_edge.bench.servers import Server

Start = Callable[[], AbstractContextManager[Server]]


def time_starts(start: Start, times: int, image: bytes) -> tuple[list[float], list[float]]:
    """Seconds from process start to the first embedding of a text, and of an image requested after it.

    `image`: a request's body.
    """
    texts, images = [], []
    for _ in range(times):
        with start() as server:
            server.embed(image)
            texts.append(server.start_s)
            images.append(time.monotonic() - server.started)
    return texts, images


def take_footprint(start: Start, order: Order, kind: str = "mixed", seconds: float = math.inf) -> Footprint:
    """Memory after `order`'s number of requests, or fewer in `seconds`: when the clients are gone, and at rest."""
    effort = order.effort
    with start() as server:
        with Clients(order.photos) as clients:
            answered = clients.send(server, kind, effort.clients, requests=effort.requests, seconds=seconds)
        at_once = server.memory()
        time.sleep(effort.rest_s)
        return Footprint(server.start_s, answered, at_once, server.memory())


def idle_cpu(start: Start, effort: Effort) -> float:
    """Share of a core, after the work that follows a request is over."""
    with start() as server:
        time.sleep(effort.rest_s)
        before, started = server.cpu_s(), time.monotonic()
        time.sleep(effort.idle_s)
        return (server.cpu_s() - before) / (time.monotonic() - started)
