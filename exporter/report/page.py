"""A report on disk: `report.json` for programs; `report.html` for people, one file with its plots inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from siglip_edge.exporter.report.html_page import drawing, heading, page, paragraph, table
from siglip_edge.exporter.report.measurements import ArtifactReport, Report
from siglip_edge.runtime.artifacts.manifest import Precision, Tower


def write_report(report: Report, directory: Path) -> None:
    (directory / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    (directory / "report.html").write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """One self-contained HTML page."""
    return page(f"{report.name}: export report", report.name, _sections(report))


def _sections(report: Report) -> Iterator[str]:
    yield paragraph(
        f"Exported from {report.source} on {report.created}, measured on {report.machine}. Every figure compares an "
        f"artifact, as it is served, with FP32 on calibration rows that no range was taken from. Loss is 1 - cosine. "
        f"Times are medians of single rows{_costs(report)}."
    )
    head = ["artifact", "MB", "ms per row", "mean loss", "worst loss", "same nearest row"]
    lines = [_line(one) for one in report.artifacts]
    if report.zero_shot_agreement:
        head.append("images choose the same text")
        lines = [[*line, _chosen(report, one)] for line, one in zip(lines, report.artifacts, strict=True)]
    yield table(head, lines)
    if report.shortened:
        yield heading("Shorter vectors")
        yield table(["dimensions", "rows that keep their nearest"], [list(pair) for pair in report.shortened.items()])
    yield _plots(report)
    for one in report.artifacts:
        if "layers" in one.details:
            yield from _layers(one)
    yield paragraph(", ".join(f"{name} {version}" for name, version in report.toolchain.items()))


def _layers(one: ArtifactReport) -> Iterator[str]:
    layers, losses = one.details["layers"], one.details["loss"]
    compared = ", ".join(f"{name} {loss:.1e}" for name, loss in losses.items())
    yield heading(f"{one.tower} {one.precision}") + paragraph(f"{one.details['reason']}. Loss: {compared}.")
    yield table(list(layers[0]), [list(layer.values()) for layer in layers])


def _costs(report: Report) -> str:
    """As in `: 256 patches, 16 to 64 tokens`."""
    units = {Tower.VISION: "patches", Tower.TEXT: "tokens"}
    parts = [
        f"{least} {units[tower]}" if least == most else f"{least} to {most} {units[tower]}"
        for tower, (least, most) in report.timed_costs.items()
    ]
    return f": {', '.join(parts)}" if parts else ""


def _line(one: ArtifactReport) -> list[object]:
    losses = (f"{one.mean_loss:.1e}", f"{max(one.losses):.1e}")
    times = ", ".join(f"{ms} {_short(provider)}" for provider, ms in one.row_ms.items())
    return [f"{one.tower} {one.precision}", one.megabytes, times, *losses, f"{one.retrieval_agreement:.1%}"]


def _chosen(report: Report, one: ArtifactReport) -> str:
    """The share of images that choose the same text; of the vision tower's artifacts."""
    return f"{report.zero_shot_agreement[one.precision]:.1%}" if one.tower is Tower.VISION else ""


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _plots(report: Report) -> str:
    """Distribution of losses, time per row, and the gain and the cost of every layer: an inline SVG."""
    from matplotlib.figure import Figure

    searched = [one for one in report.artifacts if "layers" in one.details]
    lines = 1 + -(-len(searched) // 2)
    figure = Figure(figsize=(11, 4 * lines), layout="constrained")
    losses, times, *others = figure.subplots(lines, 2).flat
    _draw_losses(losses, report.artifacts)
    _draw_times(times, report.artifacts)
    for axes, one in zip_longest(others, searched):
        if one:
            _draw_layers(axes, one)
        else:
            axes.set_axis_off()
    return drawing(figure)


def _draw_losses(axes: Any, artifacts: Sequence[ArtifactReport]) -> None:
    for one in artifacts:
        shares = np.arange(1, len(one.losses) + 1) / len(one.losses)
        axes.step(np.maximum(one.losses, 1e-8), shares, where="post", label=f"{one.tower} {one.precision}")
    axes.set(xscale="log", xlabel="loss (1 - cosine)", ylabel="share of rows at most that", title="Fidelity")
    axes.legend()


def _draw_times(axes: Any, artifacts: Sequence[ArtifactReport]) -> None:
    bars = [
        (f"{one.tower} {one.precision}, {_short(provider)}", ms)
        for one in artifacts
        for provider, ms in one.row_ms.items()
    ]
    axes.barh([name for name, _ in bars], [ms for _, ms in bars])
    axes.set(xlabel="milliseconds per row", title="Latency")


def _draw_layers(axes: Any, one: ArtifactReport) -> None:
    """Each layer's gain, and its cost in fidelity."""
    layers = one.details["layers"]
    if one.precision is Precision.INT4:
        gain, gained = [layer["megabytes"] for layer in layers], "megabytes of weights"
        cost, costs = [layer["output_error"] for layer in layers], "squared error of the output"
    else:
        gain, gained = [layer["multiplications"] for layer in layers], "multiplications per row of the tower"
        cost, costs = [layer["loss"] for layer in layers], "loss alone"
    axes.scatter(gain, np.maximum(cost, 1e-9), s=14)
    costliest = int(np.argmax(cost))
    is_right = gain[costliest] > (min(gain) + max(gain)) / 2  # there, the name stands on the left of its point
    place = (gain[costliest], cost[costliest])
    axes.annotate(layers[costliest]["name"], place, fontsize=8, ha="right" if is_right else "left")
    axes.set(yscale="log", xlabel=gained, ylabel=costs, title=f"{one.tower} {one.precision}: layers")
