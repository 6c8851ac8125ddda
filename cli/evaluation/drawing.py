"""A comparison as a picture: every figure with its interval, and the first figure against the speed."""

from __future__ import annotations

from typing import Any

from siglip_edge.cli.evaluation.results import Comparison, Estimate, ModelResult
from siglip_edge.runtime.artifacts.manifest import Tower


def draw(comparison: Comparison) -> Any:
    """-> a matplotlib figure. Models that failed are not drawn."""
    from matplotlib.figure import Figure

    models = [model for model in comparison.models if model.figures]
    figure = Figure(figsize=(11, 4), layout="constrained")
    right, fast = figure.subplots(1, 2, width_ratios=[3, 2])
    for at, model in enumerate(models):
        _draw_figures(right, model, at, len(models))
        _draw_speed(fast, model)
    if models:
        names = list(models[0].figures)
        right.set_xticks(range(len(names)), names, rotation=20, ha="right")
        right.set_ylabel("95 % confidence intervals")
        right.legend()
        fast.set(xlabel="rows per second, without decoding and tokenization", ylabel=names[0], xscale="log")
    return figure


def _draw_figures(axes: Any, model: ModelResult, at: int, models: int) -> None:
    width = 0.8 / models
    places = [number + (at - (models - 1) / 2) * width for number in range(len(model.figures))]
    estimates = list(model.figures.values())
    values = [one.value for one in estimates]
    axes.bar(places, values, width, label=model.label)
    axes.errorbar(places, values, _whiskers(estimates), fmt="none", ecolor="#222", capsize=2)


def _draw_speed(axes: Any, model: ModelResult) -> None:
    tower = Tower.VISION if Tower.VISION in model.speed else Tower.TEXT
    first = next(iter(model.figures.values()))
    if tower in model.speed:
        rates = model.speed[tower].rows_per_s
        rate = sum(rates) / len(rates)
        axes.errorbar([rate], [first.value], _whiskers([first]), fmt="o", capsize=2)
        axes.annotate(model.label, (rate, first.value), fontsize=8)


def _whiskers(estimates: list[Estimate]) -> list[list[float]]:
    """Lengths below and above the values."""
    return [[one.value - one.low for one in estimates], [one.high - one.value for one in estimates]]
