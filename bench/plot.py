"""Charts of one run: rates, latencies, start-up, memory, and the effect of many clients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from siglip_edge.bench.results import KINDS, OURS, TEXT_ONLY, TWO_WORKERS, Results


def draw(results: Results, path: Path) -> None:
    """Write the charts to `path`, which ends in .svg or .png."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    (images, texts, starts), (memory, ladder, tails) = figure.subplots(2, 3)
    for axes, kind in ((images, "images"), (texts, "texts")):
        _bars(axes, f"{kind}/s", {name: one.rate for name, one in results.load[kind].items()})
        axes.axhline(results.bare[kind].rate, color="grey", linestyle=":", label="bare session calls")
        axes.legend()
    _bars(starts, "start to first embedding, s", {name: median(taken) for name, taken in results.starts_s.items()})
    _draw_memory(memory, results)
    _draw_ladder(ladder, results)
    _draw_tails(tails, results)
    figure.savefig(path)


def _bars(axes: Any, title: str, values: Mapping[str, float]) -> None:
    axes.bar_label(axes.bar(list(values), list(values.values())), fmt="%.2f")
    axes.margins(y=0.15)  # room for the labels
    axes.set_title(title)


def _draw_memory(axes: Any, results: Results) -> None:
    """Bars whose parts add up to the sum of Rss, which counts shared pages once per process."""
    shown = {
        name.replace(", ", "\n"): one for name, one in results.memory.items() if name in {TEXT_ONLY, TWO_WORKERS, OURS}
    }
    names, floor = list(shown), [0.0] * len(shown)
    for what in ("private_dirty", "private_clean", "shared"):
        heights = [one.total(what) for one in shown.values()]
        axes.bar(names, heights, bottom=floor, label=what.replace("_", ", "))
        floor = [low + height for low, height in zip(floor, heights, strict=True)]
    axes.set_title("memory, MB")
    axes.legend()


def _draw_ladder(axes: Any, results: Results) -> None:
    few = results.effort.levels[0]
    for kind in KINDS:
        kept = {few: 1.0} | {level: median(shares) for level, shares in results.kept[kind].items()}
        axes.plot(list(kept), [100 * one for one in kept.values()], marker="o", label=kind)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 120)
    axes.set_title(f"% of the rate with {few} clients, by clients")
    axes.legend()


def _draw_tails(axes: Any, results: Results) -> None:
    for kind in KINDS:
        for name, one in results.load[kind].items():
            axes.plot(["p50", "p95", "p99"], [one.p50, one.p95, one.p99], marker="o", label=f"{kind}, {name}")
    axes.set_yscale("log")
    axes.set_title("latency, ms")
    axes.legend(fontsize="small")
