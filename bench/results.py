"""The figures of one run: written as JSON, and judged by `targets.py`. Times in milliseconds unless named `_s`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from siglip_edge.bench.order import Effort
from siglip_edge.bench.processes import ProcessMemory

OURS, PYTORCH, INFINITY = "siglip-edge", "PyTorch + FastAPI", "infinity"
TEXT_ONLY, TWO_WORKERS = "siglip-edge, TOWERS=text", "siglip-edge, WORKERS=2"
KINDS = ("images", "texts")


@dataclass(frozen=True)
class Throughput:
    """One server under one load, all turns together."""

    rates: list[float]
    """Requests per second, per turn."""
    p50: float
    p95: float
    p99: float
    requests: int
    """Number of requests behind the percentiles."""
    cpu: float
    """CPU time per request, of all the server's processes."""
    client_cpu: float
    """CPU time per request, of the load generator."""
    refused: int = 0
    """Number of 429 answers."""
    refused_p50: float | None = None
    refused_p99: float | None = None
    timed_out: int = 0
    """Number of 504 answers after admission."""

    @property
    def rate(self) -> float:
        return statistics.mean(self.rates)


@dataclass(frozen=True)
class Bare:
    """Session calls without a server."""

    rates: list[float]
    cpu: float
    p50: float
    p99: float
    """Of the times in which as many rows finish as there are clients: the machine's own tail."""

    @property
    def rate(self) -> float:
        return statistics.mean(self.rates)


@dataclass(frozen=True)
class Footprint:
    """Of a server without another server of the model beside it, after `requests`."""

    start_s: float
    requests: int
    at_once: list[ProcessMemory]
    """Right after the last answer. The first process is the started one, the others are its workers."""
    at_rest: list[ProcessMemory]
    """Some seconds later."""

    def total(self, what: str) -> float:
        """Of all processes at rest."""
        return _total(self.at_rest, what)

    def total_at_once(self, what: str) -> float:
        return _total(self.at_once, what)


@dataclass(frozen=True)
class LargeJpeg:
    """A photograph of 12 megapixels to a row: medians, and the worst cosine to decoding it in full."""

    size_mb: float
    wall: float
    cpu: float
    full_cpu: float
    cosine: float
    smooth_mb: float
    smooth_wall: float
    """The same photographs without grain."""


@dataclass(kw_only=True)
class Results:
    """Keyed by server; `load`, `bare` and `levels` by kind of request first."""

    effort: Effort
    about: dict[str, object] = field(default_factory=dict)
    disk_mb: float = 0.0
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    """To the first embedding of a text."""
    image_starts_s: dict[str, list[float]] = field(default_factory=dict)
    """To the first embedding of an image, asked for after that of the text; without infinity, which starts once."""
    memory: dict[str, Footprint] = field(default_factory=dict)
    idle_cpu: float = 0.0
    """Share of a core."""
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind -> server -> cosine of its vector to ours, for one input."""
    load: dict[str, dict[str, Throughput]] = field(default_factory=dict)
    bare: dict[str, Bare] = field(default_factory=dict)
    of_bare: dict[str, list[float]] = field(default_factory=dict)
    """Our server's rate divided by the bare calls' rate before and after it, per turn."""
    of_others: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Kind -> another server -> our rate before and after it, divided by its own, per turn."""
    levels: dict[str, dict[int, Throughput]] = field(default_factory=dict)
    """Kind -> clients -> our server."""
    kept: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Kind -> clients, without the fewest -> rate by the fewest clients' rate before and after it, per turn."""
    large_jpeg: LargeJpeg | None = None


def _total(processes: Sequence[ProcessMemory], what: str) -> float:
    return math.fsum(getattr(process, what) for process in processes)


@dataclass(frozen=True)
class Median:
    """Median of turns and its standard error, for turns that scatter normally: sqrt(pi / 2) times the mean's."""

    value: float
    error: float
    """Not a number for a single turn."""

    @classmethod
    def of(cls, turns: Sequence[float]) -> Self:
        spread = statistics.stdev(turns) if len(turns) > 1 else math.nan
        return cls(statistics.median(turns), spread * math.sqrt(math.pi / 2 / len(turns)))


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: one of the values."""
    return sorted(values)[math.ceil(share / 100 * len(values)) - 1]
