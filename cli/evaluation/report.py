"""A comparison as one self-contained HTML page, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import msgspec

from siglip_edge.cli.evaluation.datasets import Kind
from siglip_edge.cli.evaluation.drawing import draw
from siglip_edge.cli.evaluation.results import Calibration, ClassResult, Comparison, ModelResult
from siglip_edge.cli.evaluation.summary import agreement_table, failures, model_table, score_notes
from siglip_edge.exporter.report.html_page import drawing, heading, page, paragraph, table

_CLASSES = 100
"""Most classes on the page; the JSON has all."""

_INTERVALS = {
    Kind.LABELS: "Wilson's score interval (Wilson 1927)",
    Kind.CAPTIONS: "Wilson's score interval (Wilson 1927)",
    Kind.SENTENCES: "Fisher's transformation, for ranks with the variance of Bonett and Wright (2000)",
    Kind.RETRIEVAL: "Wilson's score interval for accuracy@1, 1.96 standard errors of the mean for the others",
}


def as_json(comparison: Comparison) -> str:
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode() + "\n"


def render(comparison: Comparison) -> str:
    """One self-contained page. It has drawings where matplotlib is installed."""
    return page(f"Comparison on {comparison.data}", "Comparison", _sections(comparison))


def _sections(comparison: Comparison) -> Iterator[str]:
    yield paragraph(f"{comparison.data}: {comparison.size}. {comparison.created}, on {comparison.machine}.")
    yield table(*model_table(comparison))
    yield "".join(map(paragraph, failures(comparison)))
    yield paragraph(
        f"In brackets: 95 % confidence interval, {_INTERVALS[comparison.kind]}. Rates are those of the towers, without "
        "decoding and tokenization; the models took turns, and a ratio is the mean of the rounds ± its standard error. "
        "Memory is that of one process per model: at the end of the data set, and the greatest. A tie between the "
        "right text and another counts as wrong."
    )
    if find_spec("matplotlib"):
        yield drawing(draw(comparison))
    if comparison.agreements:
        yield heading("Agreement")
        yield table(*agreement_table(comparison))
        yield paragraph(_agreement_words(comparison))
    yield from _scores(comparison)
    if any(model.classes for model in comparison.models):
        yield from _classes(comparison)
    yield from _left_out(comparison.models)


def _agreement_words(comparison: Comparison) -> str:
    if comparison.kind is Kind.SENTENCES:
        return "Spearman's correlation of the cosines that the two models give to the same pairs."
    return (
        "difference: the share that is right with the first model minus that with the second, on the same inputs, with "
        "its 95 % confidence interval. p: exact McNemar test, the chance of a difference at least as large if both "
        "models were equally good."
    )


def _scores(comparison: Comparison) -> Iterator[str]:
    notes = list(score_notes(comparison))
    if not notes:
        return
    yield heading("Scores")
    yield "".join(paragraph(f"{note}.") for note in notes)
    if comparison.kind is Kind.CAPTIONS and any(model.calibrations for model in comparison.models):
        yield paragraph("A caption of another picture may fit too: the share that belongs is then too low.")
    for model in comparison.models:
        for one in model.calibrations:
            yield heading(f"{model.label}: {one.of}") + _reliability(one)


def _reliability(one: Calibration) -> str:
    head = ["score", "scores", "mean score", "share that is right"]
    rows = [
        [f"{part.low:.1f} to {part.high:.1f}", part.scores, f"{part.mean_score:.3f}", f"{part.right:.3f}"]
        for part in one.bins
    ]
    return table(head, rows)


def _classes(comparison: Comparison) -> Iterator[str]:
    """The classes on which the models differ most, then the hardest."""
    models = [model for model in comparison.models if model.classes]
    names = sorted(models[0].classes, key=lambda name: _interest([model.classes.get(name) for model in models]))
    yield heading("Classes")
    if len(names) > _CLASSES:
        yield paragraph(f"The {_CLASSES} of {len(names)} on which the models differ most; --json has all.")
    yield table(
        ["class", "pictures", *(model.label for model in models)],
        [
            [name, models[0].classes[name].pictures, *(_share(model.classes.get(name)) for model in models)]
            for name in names[:_CLASSES]
        ],
    )


def _interest(results: list[ClassResult | None]) -> tuple[float, float]:
    shares = [one.right / one.pictures for one in results if one]
    return min(shares) - max(shares), sum(shares)


def _share(one: ClassResult | None) -> str:
    return f"{one.right / one.pictures:.0%}" if one else ""


def _left_out(models: list[ModelResult]) -> Iterator[str]:
    reasons = {file: reason for model in models for file, reason in model.left_out.items()}
    if reasons:
        yield heading("Pictures left out")
        yield table(["picture", "reason"], list(reasons.items()))
