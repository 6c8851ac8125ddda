"""Several models on one data set: a process per model and turn, so that a failure costs one model's figures only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from itertools import combinations
from multiprocessing import get_context
from typing import Any, TypeVar

import click
import msgspec
import numpy as np

from siglip_edge.cli.evaluation import intervals
from siglip_edge.cli.evaluation.datasets import Dataset, Kind
from siglip_edge.cli.evaluation.measure import Subject, measure, open_once
from siglip_edge.cli.evaluation.metrics import spearman
from siglip_edge.cli.evaluation.results import Agreement, Answers, Comparison, ModelResult
from siglip_edge.cli.evaluation.speed import Rates, measure_rates, speeds
from siglip_edge.cli.progress import progress
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.server.config.settings import Settings

T = TypeVar("T")


class Comparer:
    """Measures subjects on one data set and keeps the reason of each that fails."""

    def __init__(self, subjects: Sequence[Subject], settings: Settings, data: Dataset, template: str | None) -> None:
        self._subjects = subjects
        self._settings = settings
        self._data = data
        self._template = template
        self._failed: dict[str, str] = {}

    def compare(self, name: str, *, rounds: int, seconds: float) -> Comparison:
        """`rounds` turns of `seconds` per model and tower measure the speed; 0 leaves the speed out.

        Raises click.ClickException when no picture can be read.
        """
        for subject in self._subjects:  # before the first is measured, so that what is wrong shows early
            self._trying(subject, subject.plan, self._settings, self._data)
        for subject in self._right():
            self._trying(subject, in_own_process, open_once, subject, self._settings, self._data)
        found = [
            measured
            for subject in self._right()
            if (measured := self._trying(subject, in_own_process, measure, *self._arguments(subject)))
        ]
        rates = speeds(self._turns(rounds, seconds))
        results = {one.label: msgspec.structs.replace(one, speed=rates.get(one.label, {})) for one, _ in found}
        cpu = read_cpu_budget()
        return Comparison(
            data=name,
            kind=self._data.kind,
            size=str(self._data),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=f"{cpu.describe()}; {' '.join(cpu.isa)}",
            models=[self._result(subject, results.get(subject.label)) for subject in self._subjects],
            agreements=agreements(self._data.kind, [(result.label, answers) for result, answers in found]),
        )

    def _arguments(self, subject: Subject) -> tuple[Subject, Settings, Dataset, str | None]:
        return subject, self._settings, self._data, self._template

    def _turns(self, rounds: int, seconds: float) -> list[dict[str, Rates]]:
        """Every second round runs backwards, so that no model always runs after the same model."""
        turns: list[dict[str, Rates]] = [{} for _ in range(rounds)]
        order = [(number, subject) for number in range(rounds) for subject in self._right()[:: (-1) ** number]]
        for number, subject in progress(order, "speed, in turns") if order else ():
            if subject in self._right():
                arguments = (*self._arguments(subject), seconds)
                if rates := self._trying(subject, in_own_process, measure_rates, *arguments):
                    turns[number][subject.label] = rates
        return turns

    def _right(self) -> list[Subject]:
        """The subjects that have not failed."""
        return [subject for subject in self._subjects if subject.label not in self._failed]

    def _trying(self, subject: Subject, function: Callable[..., T], *arguments: Any) -> T | None:
        """The function's result. A failure of the model is said at once and kept."""
        try:
            return function(*arguments)
        except SiglipEdgeError as error:
            self._failed[subject.label] = str(error)
        except BrokenProcessPool:
            self._failed[subject.label] = "its process was ended from outside, probably for the memory it took"
        except click.ClickException:
            raise  # the data set or an option: no model would do better
        except Exception as error:  # noqa: BLE001 - providers raise exceptions of any class
            self._failed[subject.label] = " ".join(f"{type(error).__name__}: {error}".split())
        click.echo(f"Error: {named(subject.label, self._failed[subject.label])}", err=True)
        return None

    def _result(self, subject: Subject, result: ModelResult | None) -> ModelResult:
        result = result or ModelResult(
            label=subject.label, directory=str(subject.directory), precision=subject.precision
        )
        return msgspec.structs.replace(result, error=self._failed.get(subject.label))


def named(label: str, reason: str) -> str:
    """The reason after the label, unless it begins with it."""
    return reason if reason.startswith(f"{label}:") else f"{label}: {reason}"


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a fresh process, so that only its own memory counts and ends with it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def agreements(kind: Kind, answers: Sequence[tuple[str, Answers]]) -> list[Agreement]:
    """Every two of the models, by their labels."""
    return [
        _alike(one, other) if kind is Kind.SENTENCES else _same_answers(one, other)
        for one, other in combinations(answers, 2)
    ]


def _alike(first: tuple[str, Answers], second: tuple[str, Answers]) -> Agreement:
    one, other = first[1].cosines, second[1].cosines
    same = intervals.correlation(spearman(one, other), len(one), of_ranks=True)
    return Agreement(first=first[0], second=second[0], same=same)


def _same_answers(first: tuple[str, Answers], second: tuple[str, Answers]) -> Agreement:
    one, other = first[1], second[1]
    both = (one.best >= 0) & (other.best >= 0)
    only_first, only_second = (
        int(np.count_nonzero(both & right & ~wrong))
        for right, wrong in ((one.right, other.right), (other.right, one.right))
    )
    inputs = int(np.count_nonzero(both))
    return Agreement(
        first=first[0],
        second=second[0],
        same=intervals.share(int(np.count_nonzero(both & (one.best == other.best))), inputs),
        only_first_right=only_first,
        only_second_right=only_second,
        difference=intervals.difference(only_first, only_second, inputs),
        p_value=intervals.mcnemar(only_first, only_second),
    )
