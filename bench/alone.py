"""Measures each server alone: its time to start, its memory, and its CPU time without requests."""

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
    """-> seconds from the start of the process to the first embedding of a text, and to that of an image after it.

    Each list has one value per start. `image`: body of the request.
    """
    texts, images = [], []
    for _ in range(times):
        with start() as server:
            server.embed(image)
            texts.append(server.start_s)
            images.append(time.monotonic() - server.started)
    return texts, images


def take_footprint(start: Start, order: Order, kind: str = "mixed", seconds: float = math.inf) -> Footprint:
    """Send requests, then read the memory twice: when the clients are gone, and after a rest.

    The number of requests comes from `order`; fewer are sent if they take longer than `seconds`.
    """
    effort = order.effort
    with start() as server:
        with Clients(order.photos) as clients:
            answered = clients.send(server, kind, effort.clients, requests=effort.requests, seconds=seconds)
        at_once = server.memory()
        time.sleep(effort.rest_s)
        return Footprint(server.start_s, answered, at_once, server.memory())


def idle_cpu(start: Start, effort: Effort) -> float:
    """-> share of a core that a server without requests uses, after a rest that follows its first requests."""
    with start() as server:
        time.sleep(effort.rest_s)
        before, started = server.cpu_s(), time.monotonic()
        time.sleep(effort.idle_s)
        return (server.cpu_s() - before) / (time.monotonic() - started)
