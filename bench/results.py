"""The figures of one run, which `targets.py` compares with targets. Times are in milliseconds, or seconds with `_s`."""

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
    """One server under one load, over all turns."""

    rates: list[float]
    """Requests per second, per turn."""
    p50: float
    p95: float
    p99: float
    requests: int
    """Number of requests behind the percentiles."""
    cpu: float
    """CPU time per request, of all processes of the server."""
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
    """Percentiles of the times in which as many rows finish as there are clients: the tail of the machine itself."""

    @property
    def rate(self) -> float:
        return statistics.mean(self.rates)


@dataclass(frozen=True)
class Footprint:
    """Memory of a server that runs alone, after `requests` answers."""

    start_s: float
    requests: int
    at_once: list[ProcessMemory]
    """Per process, right after the last answer. The first is the parent process, the others are its workers."""
    at_rest: list[ProcessMemory]
    """Per process, some seconds later."""

    def total(self, what: str) -> float:
        """-> sum of the field `what` of ProcessMemory over all processes, at rest."""
        return _total(self.at_rest, what)

    def total_at_once(self, what: str) -> float:
        return _total(self.at_once, what)


@dataclass(frozen=True)
class LargeJpeg:
    """From a JPEG of 12 megapixels to a row: medians, and the least cosine to the row that is decoded in full."""

    size_mb: float
    wall: float
    cpu: float
    full_cpu: float
    cosine: float
    smooth_mb: float
    smooth_wall: float
    """The same photographs without added noise."""


@dataclass(kw_only=True)
class Results:
    """The keys are names of servers, unless a field says otherwise; kinds are images and texts."""

    effort: Effort
    about: dict[str, object] = field(default_factory=dict)
    disk_mb: float = 0.0
    starts_s: dict[str, list[float]] = field(default_factory=dict)
    """Per start, seconds to the first embedding of a text."""
    image_starts_s: dict[str, list[float]] = field(default_factory=dict)
    """Per start, seconds to the first embedding of an image, which is requested after the text. infinity has none,
    because it starts only once."""
    memory: dict[str, Footprint] = field(default_factory=dict)
    idle_cpu: float = 0.0
    """Share of a core."""
    agreement: dict[str, dict[str, float]] = field(default_factory=dict)
    """Kind -> server -> cosine between its vector and our vector of one input."""
    load: dict[str, dict[str, Throughput]] = field(default_factory=dict)
    bare: dict[str, Bare] = field(default_factory=dict)
    of_bare: dict[str, list[float]] = field(default_factory=dict)
    """Kind -> per turn, the rate of our server divided by the mean rate of the bare calls before and after it."""
    of_others: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Kind -> other server -> per turn, our mean rate before and after it, divided by its rate."""
    levels: dict[str, dict[int, Throughput]] = field(default_factory=dict)
    """Kind -> number of clients -> our server."""
    kept: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Kind -> number of clients -> per turn, the rate divided by the mean rate of the fewest clients around it."""
    large_jpeg: LargeJpeg | None = None


def _total(processes: Sequence[ProcessMemory], what: str) -> float:
    return math.fsum(getattr(process, what) for process in processes)


@dataclass(frozen=True)
class Median:
    """Median of turns, and its standard error: for a normal distribution, sqrt(pi / 2) times the error of the mean."""

    value: float
    error: float
    """NaN for a single turn."""

    @classmethod
    def of(cls, turns: Sequence[float]) -> Self:
        spread = statistics.stdev(turns) if len(turns) > 1 else math.nan
        return cls(statistics.median(turns), spread * math.sqrt(math.pi / 2 / len(turns)))


def percentile(values: Sequence[float], share: float) -> float:
    """-> the percentile by nearest rank, which is always one of the values. `share`: 0 to 100."""
    return sorted(values)[math.ceil(share / 100 * len(values)) - 1]
