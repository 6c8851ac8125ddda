"""The table of one run: figures beside the targets of the project. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

from siglip_edge.bench.results import KINDS, OURS, PYTORCH, TEXT_ONLY, TWO_WORKERS, Footprint, Median, Results

T = TypeVar("T")

TIMES_PYTORCH = {"images": 2.5, "texts": 3.5}
"""Least rate relative to PyTorch behind FastAPI."""
OF_BARE = 0.95
"""Least rate relative to bare session calls."""
TAIL = 1.5
"""Largest p99 divided by p50."""
LOSS = 0.05
"""Largest loss of the rate with more clients."""
AT_ONCE_MS = 100
"""Largest p99 of a refusal that counts as "at once", on busy cores."""
RESIDENT_MB, PRIVATE_MB, TEXT_ONLY_MB, WORKER_MB, DISK_MB = 300, 140, 160, 70, 420
START_S = 1.0
IDLE = 0.005
JPEG_MS, JPEG_COSINE = 45, 0.999

WHAT = {"images": "images/s, JPEG photographs", "texts": "texts/s, none cached"}


@dataclass(frozen=True)
class Row:
    figure: str
    ours: str
    target: str = ""
    met: bool | None = None
    """Whether the target is met. None: no target, or no server to compare with."""
    others: dict[str, str] = field(default_factory=dict)
    """Other server -> its figure."""


def rows(results: Results) -> list[Row]:
    """-> every target of the project, and further figures that explain them."""
    return [
        *(row for kind in KINDS for row in _load(results, kind)),
        *(row for kind in KINDS for row in _ladder(results, kind)),
        *_memory(results),
        *_rest(results),
    ]


def _load(results: Results, kind: str) -> list[Row]:
    load, bare = results.load[kind], results.bare[kind]
    ours = load[OURS]
    ahead = {name: Median.of(turns) for name, turns in results.of_others[kind].items()}
    of_bare, tail = Median.of(results.of_bare[kind]), ours.p99 / ours.p50
    return [
        Row(
            f"{WHAT[kind]}, {results.effort.clients} clients",
            f"{ours.rate:.1f}",
            f"≥ {TIMES_PYTORCH[kind]} × PyTorch's",
            ahead[PYTORCH].value >= TIMES_PYTORCH[kind] if PYTORCH in ahead else None,
            {name: f"{load[name].rate:.2f} (ours: {one.value:.2f} ± {one.error:.2f} ×)" for name, one in ahead.items()},
        ),
        _same(load, f"{kind}: p50 / p95 / p99, ms", lambda one: f"{one.p50:.0f} / {one.p95:.0f} / {one.p99:.0f}"),
        Row(
            f"{kind}: p99 ÷ p50",
            f"{tail:.2f} (bare session calls, as many rows: {bare.p99 / bare.p50:.2f})",
            f"≤ {TAIL}",
            tail <= TAIL,
            _others(load, lambda one: f"{one.p99 / one.p50:.2f}"),
        ),
        _same(load, f"{kind}: CPU per request, ms", lambda one: f"{one.cpu:.1f}"),
        Row(
            f"{kind}: server ÷ bare session calls",
            f"{of_bare.value:.3f} ± {of_bare.error:.3f} ({bare.rate:.1f}/s and {bare.cpu:.1f} CPU ms per row without "
            f"server; clients' own {ours.client_cpu:.1f})",
            f"≥ {OF_BARE}",
            of_bare.value >= OF_BARE,
        ),
        _same(results.agreement[kind], f"{kind}: cosine to our vector of the same input", lambda one: f"{one:.4f}"),
    ]


def _ladder(results: Results, kind: str) -> list[Row]:
    levels = results.levels[kind]
    kept = min(map(Median.of, results.kept[kind].values()), key=attrgetter("value"))
    late = sum(one.timed_out for one in levels.values())
    refusing = [one for one in levels.values() if one.refused_p99 is not None]
    slowest = max((one.refused_p99 or 0.0 for one in refusing), default=0.0)
    return [
        Row(
            f"{kind}/s with {' / '.join(map(str, levels))} clients",
            " / ".join(f"{one.rate:.1f}" for one in levels.values())
            + f" (at least {100 * kept.value:.1f} ± {100 * kept.error:.1f} % of the first)"
            + (f"; {late} got 504" if late else ""),
            f"falls by < {LOSS:.0%}, no 504",
            kept.value > 1 - LOSS and not late,
        ),
        Row(
            f"{kind}: 429 to the rest after, ms p50 / p99",
            " and ".join(f"{one.refused_p50:.0f} / {one.refused_p99:.0f} ({one.refused} times)" for one in refusing)
            or "none",
            "at once",
            slowest <= AT_ONCE_MS if refusing else None,
        ),
    ]


def _memory(results: Results) -> list[Row]:
    both = {name: one for name, one in results.memory.items() if name not in {TEXT_ONLY, TWO_WORKERS}}
    ours, text = results.memory[OURS], results.memory[TEXT_ONLY].total("pss")
    workers = [process.private for process in results.memory[TWO_WORKERS].at_rest[1:]]

    def sums(what: str) -> Callable[[Footprint], str]:
        return lambda one: f"{one.total(what):.0f}"

    def bounded(figure: str, what: str, limit: int) -> Row:
        total = ours.total(what)
        return Row(figure, f"{total:.0f}", f"≤ {limit}", total <= limit, _others(both, sums(what)))

    return [
        bounded(f"memory at rest after {ours.requests} requests, MB: Pss, all processes", "pss", RESIDENT_MB),
        _same(both, "… as the last answer left it", lambda one: f"{one.total_at_once('pss'):.0f}"),
        bounded("… private, all processes", "private", PRIVATE_MB),
        _same(both, "… private that is files', until another worker maps them", sums("private_clean")),
        _same(both, "… anonymous", sums("anonymous")),
        _same(both, "… Rss of each process", lambda one: " + ".join(f"{p.resident:.0f}" for p in one.at_rest)),
        Row("… text only: Pss, all processes", f"{text:.0f}", f"≤ {TEXT_ONLY_MB}", text <= TEXT_ONLY_MB),
        Row(
            "… private, each of 2 workers",
            " and ".join(f"{one:.0f}" for one in workers),
            f"≤ {WORKER_MB}",
            max(workers) <= WORKER_MB,
        ),
    ]


def _rest(results: Results) -> list[Row]:
    starts, image_starts = (
        {name: statistics.median(seconds) for name, seconds in measured.items()}
        for measured in (results.starts_s, results.image_starts_s)
    )
    jpeg = results.large_jpeg
    assert jpeg is not None
    return [
        Row(
            "start to first embedding, s",
            f"{starts[OURS]:.2f}",
            f"≤ {START_S}",
            starts[OURS] <= START_S,
            _others(starts, lambda one: f"{one:.1f}"),
        ),
        _same(image_starts, "… of a text, then of an image, s", lambda one: f"{one:.2f}"),
        Row("idle, % of a core", f"{100 * results.idle_cpu:.2f}", f"≤ {IDLE:.1%}", results.idle_cpu <= IDLE),
        Row("model directory, MB", f"{results.disk_mb:.0f}", f"≤ {DISK_MB}", results.disk_mb <= DISK_MB),
        Row(
            f"12-megapixel JPEG ({jpeg.size_mb:.1f} MB) to a row, ms",
            f"{jpeg.wall:.0f} (CPU {jpeg.cpu:.0f}; decoded in full {jpeg.full_cpu:.0f})",
            f"≤ {JPEG_MS}",
            jpeg.wall <= JPEG_MS,
        ),
        Row(f"… enlarged without a camera's grain ({jpeg.smooth_mb:.1f} MB), ms", f"{jpeg.smooth_wall:.0f}"),
        Row(
            "… worst cosine to decoding it in full",
            f"{jpeg.cosine:.5f}",
            f"≥ {JPEG_COSINE}",
            jpeg.cosine >= JPEG_COSINE,
        ),
    ]


def _same(measured: Mapping[str, T], figure: str, show: Callable[[T], str]) -> Row:
    """-> the row of a figure without a target, for every server."""
    return Row(figure, show(measured[OURS]), others=_others(measured, show))


def _others(measured: Mapping[str, T], show: Callable[[T], str]) -> dict[str, str]:
    return {name: show(one) for name, one in measured.items() if name != OURS}
