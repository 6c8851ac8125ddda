"""The load generator in a process of its own, and the figures of its turns."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Self

from siglip_edge.bench.load import Load, Work, run_for, run_until
from siglip_edge.bench.results import Throughput, percentile
from siglip_edge.bench.servers import Server

_INPUTS_A_RUN = 1_000_000
"""More requests than a turn sends. Each turn starts at a multiple of it, so no two turns send the same input."""


def own_process() -> ProcessPoolExecutor:
    """-> a new interpreter that runs submitted calls one after the other."""
    return ProcessPoolExecutor(1, get_context("spawn"))


@dataclass
class Tally:
    """The turns of one server, and the CPU seconds of that server in them."""

    loads: list[Load] = field(default_factory=list)
    cpu_s: float = 0.0

    def summary(self) -> Throughput:
        latencies = [one for load in self.loads for one in load.latencies]
        refused = [one for load in self.loads for one in load.refused]
        answered = sum(len(load.answered) for load in self.loads)
        return Throughput(
            rates=[load.rate for load in self.loads],
            p50=1000 * percentile(latencies, 50),
            p95=1000 * percentile(latencies, 95),
            p99=1000 * percentile(latencies, 99),
            requests=len(latencies),
            cpu=1000 * self.cpu_s / answered,
            client_cpu=1000 * sum(load.client_cpu_s for load in self.loads) / answered,
            refused=len(refused),
            refused_p50=1000 * percentile(refused, 50) if refused else None,
            refused_p99=1000 * percentile(refused, 99) if refused else None,
            timed_out=sum(load.timed_out for load in self.loads),
        )


class Clients:
    """Clients in closed loops. The same `Clients` never send an input twice."""

    def __init__(self, photos: Path | None) -> None:
        self._photos = photos
        self._firsts = count(_INPUTS_A_RUN, _INPUTS_A_RUN)
        self._process = own_process()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.shutdown()

    def count(self, server: Server, kind: str, clients: int, seconds: float, warm_up_s: float, *, into: Tally) -> float:
        """Take one turn and add it to `into`. -> answers per second. Raises ServerFailed."""
        before = server.cpu_s()
        load = self._process.submit(run_for, self._work(server, kind), clients, seconds, warm_up_s).result()
        into.cpu_s += server.cpu_s() - before
        into.loads.append(load)
        return load.rate

    def send(self, server: Server, kind: str, clients: int, *, requests: int, seconds: float) -> int:
        """Send `requests` requests, or fewer if they take longer than `seconds`. -> number of answers.

        Raises ServerFailed.
        """
        work = self._work(server, kind)
        return len(self._process.submit(run_until, work, clients, requests, seconds).result().answered)

    def _work(self, server: Server, kind: str) -> Work:
        return Work(server.port, kind, self._photos, next(self._firsts))
