"""A comparison as rows of text: the same rows on the terminal and in the report, a column per model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from siglip_edge.cli.evaluation.datasets import Kind
from siglip_edge.cli.evaluation.results import Agreement, Comparison, Estimate, ModelResult
from siglip_edge.cli.table import columns
from siglip_edge.runtime.artifacts.manifest import Tower

_DECIMALS = {"Spearman", "Pearson", "MRR@10", "nDCG@10"}
"""Figures that papers print as decimals; the others are shares."""

_RATES = {Tower.VISION: "images/s", Tower.TEXT: "texts/s"}

_SAME = {
    Kind.LABELS: "same label",
    Kind.CAPTIONS: "same caption",
    Kind.RETRIEVAL: "same document",
    Kind.SENTENCES: "Spearman of cosines",
}


def render(comparison: Comparison) -> str:
    """Everything that the terminal shows. What failed has been said when it failed."""
    parts = [columns(*model_table(comparison))] if any(model.figures for model in comparison.models) else []
    if comparison.agreements:
        parts.append(columns(*agreement_table(comparison)))
    if notes := list(score_notes(comparison)):
        parts.append(notes)
    return "\n\n".join("\n".join(part) for part in parts)


def model_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a column per model that was measured, a row per figure that some model has."""
    models = [model for model in comparison.models if model.figures]
    names = list(dict.fromkeys(name for model in models for name in model.figures))
    rows = [
        *([name, *(shown(name, model.figures.get(name)) for model in models)] for name in names),
        *_speed_rows(models),
        ["resident MB", *(_number(model.resident_mb, 0) for model in models)],
        ["peak MB", *(_number(model.peak_mb, 0) for model in models)],
        ["files MB", *(_number(model.files_mb, 1) for model in models)],
        ["load ms", *(_number(model.load_ms, 0) for model in models)],
        ["precision", *(model.precision for model in models)],
        ["template", *(model.template or "" for model in models)],
        ["prompts", *(", ".join(map(repr, model.prompts)) for model in models)],
        ["truncated texts", *(str(model.truncated_texts or "") for model in models)],
        ["pictures left out", *(str(len(model.left_out) or "") for model in models)],
    ]
    return ["", *(model.label for model in models)], [row for row in rows if any(row[1:])]


def agreement_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row per two models."""
    header = ["first and second", _SAME[comparison.kind]]
    if comparison.kind is not Kind.SENTENCES:
        header += ["only first right", "only second right", "difference", "p"]
    return header, [_agreement(comparison.kind, one) for one in comparison.agreements]


def score_notes(comparison: Comparison) -> Iterator[str]:
    """A sentence per model about its scores; for pictures only."""
    for model in comparison.models:
        if model.calibrations:
            errors = ", ".join(f"{one.error:.3f} ({one.of})" for one in model.calibrations)
            yield f"{model.label}: calibrated scores; expected calibration error {errors}"
        elif model.figures and comparison.kind in {Kind.LABELS, Kind.CAPTIONS}:
            yield (
                f"{model.label}: its {model.scoring} scores compare the texts of one picture and are no probability "
                "of a pair, so they have no calibration error"
                if model.scoring == "softmax"
                else f"{model.label}: its scores are cosines, no probability of a pair; they have no calibration error"
            )


def failures(comparison: Comparison) -> Iterator[str]:
    """A sentence per model that failed."""
    for model in comparison.models:
        if model.error:
            yield f"{model.label} failed: {model.error.removeprefix(f'{model.label}: ')}"


def shown(name: str, estimate: Estimate | None) -> str:
    """`61.3 % (52.1-69.8)`, or `0.812 (0.790-0.833)`."""
    if estimate is None:
        return ""
    if name in _DECIMALS:
        return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _speed_rows(models: Sequence[ModelResult]) -> Iterator[list[str]]:
    for tower, name in _RATES.items():
        yield [name, *(_rate(model, tower) for model in models)]
        yield ["  × the first", *(_ratio(model, tower) for model in models)]


def _rate(model: ModelResult, tower: Tower) -> str:
    speed = model.speed.get(tower)
    return f"{sum(speed.rows_per_s) / len(speed.rows_per_s):.4g}" if speed else ""


def _ratio(model: ModelResult, tower: Tower) -> str:
    speed = model.speed.get(tower)
    if speed is None or speed.ratio is None:
        return ""
    error = f" ± {speed.ratio_error:.2f}" if speed.ratio_error is not None else ""
    return f"{speed.ratio:.2f}{error}"


def _agreement(kind: Kind, one: Agreement) -> list[str]:
    names = f"{one.first}, {one.second}"
    if one.difference is None or one.p_value is None:
        return [names, shown("Spearman" if kind is Kind.SENTENCES else "", one.same)]
    return [
        names,
        shown("", one.same),
        str(one.only_first_right),
        str(one.only_second_right),
        shown("", one.difference),
        f"{one.p_value:.3g}",
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
