"""The figures of a comparison, as `--json` writes them. Shares are from 0 to 1."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.evaluation.datasets import Kind
from siglip_edge.runtime.artifacts.manifest import Tower


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % confidence interval."""

    value: float
    low: float
    high: float


class ClassResult(msgspec.Struct, frozen=True):
    pictures: int
    right: int


class Bin(msgspec.Struct, frozen=True):
    """Scores from `low` to `high`: how many, their mean, and the share that was right."""

    low: float
    high: float
    scores: int
    mean_score: float
    right: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Reliability of calibrated scores."""

    of: str
    """Which scores: of the best text per picture, or of every pair."""
    error: float
    """Expected calibration error."""
    bins: list[Bin]
    """Without empty bins."""


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """One tower, without decoding and tokenization."""

    rows_per_s: list[float]
    """Per round."""
    ratio: float | None = None
    """Mean over the rounds of this model's rate divided by the first model's in the same round."""
    ratio_error: float | None = None
    """Standard error of that mean."""


class ModelResult(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one precision. Where `error` says what failed, figures are missing. Memory in megabytes."""

    label: str
    """Name and precision; with the directory where two models have one name."""
    directory: str
    precision: str
    error: str | None = None
    name: str = ""
    family: str = ""
    provider: str = ""
    scoring: str = ""
    """sigmoid, softmax or cosine."""
    template: str | None = None
    """The sentence around a class name."""
    prompts: list[str] = []
    """Texts that were put before every query, document or sentence."""
    figures: dict[str, Estimate] = {}
    classes: dict[str, ClassResult] = {}
    calibrations: list[Calibration] = []
    speed: dict[Tower, Speed] = {}
    load_ms: float | None = None
    resident_mb: float | None = None
    """Of the process that embedded the data set, at its end."""
    peak_mb: float | None = None
    """The greatest of that process."""
    files_mb: float | None = None
    """Graphs, vocabulary and tokenizer of this precision on disk."""
    truncated_texts: int = 0
    """Texts that are longer than the tower's length."""
    left_out: dict[str, str] = {}
    """Picture that could not be read -> reason."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same inputs."""

    first: str
    second: str
    same: Estimate
    """Share of inputs with the same best answer; for sentence pairs Spearman's correlation of the models' cosines."""
    only_first_right: int | None = None
    only_second_right: int | None = None
    difference: Estimate | None = None
    """Share that is right with the first model minus that with the second."""
    p_value: float | None = None
    """Exact McNemar test: the chance of a difference at least this large if both models were equally good."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    data: str
    kind: Kind
    size: str
    created: str
    machine: str
    models: list[ModelResult]
    agreements: list[Agreement]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model answered to each input on the left, for the comparison with other models."""

    best: NDArray[np.int64]
    """(n,): position of the best text on the right; -1 for a picture that was left out."""
    right: NDArray[np.bool_]
    cosines: NDArray[np.float32]
    """(n,) of sentence pairs; else empty."""

    def spread(self, inputs: int, left_out: Container[int]) -> Answers:
        """The answers at their positions among all `inputs`, where `left_out` were left out."""
        if not len(self.best):
            return self
        kept = [position for position in range(inputs) if position not in left_out]
        best, right = np.full(inputs, -1, np.int64), np.zeros(inputs, np.bool_)
        best[kept], right[kept] = self.best, self.right
        return Answers(best=best, right=right, cosines=self.cosines)
