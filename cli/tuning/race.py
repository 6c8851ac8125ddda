"""Combinations of provider, precision, threads, batch size and spinning, raced in interleaved laps. Knows no model."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, Protocol, TypeVar

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
RowMs = dict[Tower, float]
P = ParamSpec("P")
T = TypeVar("T")

BATCHES = (1, 4, 8)
"""Rows a run that are tried where a row's bits do not depend on the others."""

NOISE = 1.03
"""Times this close count as equal: another race might turn them round, and the default needs no reason."""

SPINNING_GAIN = 1.10
"""Between two runs a spinning thread takes its core from decoding, from tokenization and from the other tower, none of
which is in the race: it has to be a tenth faster here to be as fast in a server."""

BATCHING_GAIN = 1.10
"""In a batch the first row waits for the last and the expanded rows take memory; a tenth would be worth it."""

FINALISTS = 3
FINAL_LAPS = 5


class Track(Protocol):
    """Where a plan is tried. Whatever a method raises is this plan's failure."""

    def cosines(self, plan: ExecutionPlan) -> dict[Tower, float]:
        """Self-test. -> the least cosine of each tower's golden rows to FP32. Raises SelfTestFailed."""
        ...

    def lap(self, plan: ExecutionPlan, seconds: float) -> RowMs:
        """Time the plan for about so long. -> median milliseconds a row."""
        ...

    def check_bits(self, plan: ExecutionPlan) -> None:
        """Raise BatchChangesBits when a row has other bits in a batch than alone."""
        ...


@dataclass
class Entrant:
    """A combination and what is known of it."""

    plan: ExecutionPlan
    cosines: dict[Tower, float] = field(default_factory=dict)
    laps: list[RowMs] = field(default_factory=list)
    """The n-th was run beside the n-th of everyone who was still in the race."""
    refused: str = ""
    """Why it must not be served, or empty."""

    @property
    def row_ms(self) -> RowMs:
        """Medians over the laps."""
        towers = self.laps[0] if self.laps else ()
        return {tower: statistics.median(lap[tower] for lap in self.laps) for tower in towers}

    def relative(self, default: Entrant) -> float:
        """Time a row by the default's, lap by lap: what slows the whole machine for a while cancels."""
        pairs = zip(self.laps, default.laps, strict=False)  # who has left ran the first ones only
        return statistics.median(_mean_ms(mine) / _mean_ms(its) for mine, its in pairs)

    def attempt(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Do it; a failure is this combination's and ends nothing else."""
        try:
            return work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - providers raise what they like
            self.refused = " ".join(str(error).split()) or type(error).__name__
            return None


def combinations(
    preferred: Sequence[ExecutionPlan], *, most_threads: int, most_rows: int = max(BATCHES)
) -> list[ExecutionPlan]:
    """What is worth trying around `preferred`, the plans of `runtime.execution.plan.plans`; the default stays first.

    `most_threads`: there are for a worker. `most_rows`: that the server puts in a run. A plan may be content with less.
    """
    as_preferred = [
        replace(plan, intra_op_threads=threads, runs_at_once=runs, allow_spinning=spinning)
        for plan in preferred
        for threads in _thread_counts(plan, most_threads)
        for runs in _run_counts(plan, one_by_one=threads == most_threads)
        for spinning in ((False, True) if plan.provider == CPU and threads > 1 else (False,))
    ]
    # Other batches last: a slow machine has no time for them, and they promise least.
    batched = [
        plan.with_rows(rows)
        for rows in BATCHES
        for plan in as_preferred
        if _has_equal_bits(plan) and plan.with_rows(rows) != plan and rows <= most_rows
    ]
    return _distinct([*as_preferred, *batched])


def race(
    track: Track,
    plans: Sequence[ExecutionPlan],
    budget_s: float,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> list[Entrant]:
    """Self-test every provider and precision, then time those that are right; each round the slower half leaves.

    `plans`: the default first, which never leaves. -> all of them in that order; `choose` says which one won. On a
    machine so slow that the first round takes half of the budget, the last of `plans` are not timed.
    """
    entrants = [Entrant(plan) for plan in plans]
    _test(track, entrants, progress)
    running, ends = right(entrants), clock() + budget_s
    sizes = list(_round_sizes(len(running)))
    for number, size in enumerate(sizes, 1):
        if number > 1 and clock() >= ends:
            break
        running = _fastest(running, size)
        laps_left = sum(min(one, len(running)) for one in sizes[number - 1 :])
        # Back and forth: nobody always runs after the same neighbour.
        for entrant in progress(running[:: 1 if number % 2 else -1], f"round {number} of {len(sizes)}"):
            left_s = ends - clock()
            if number == 1 and running[0].laps and left_s <= budget_s / 2:
                break
            if lap := entrant.attempt(track.lap, entrant.plan, max(0.0, left_s) / laps_left):
                entrant.laps.append(lap)
            laps_left -= 1
        running = [one for one in right(running) if one.laps]
    return entrants


def choose(track: Track, entrants: Sequence[Entrant]) -> Entrant | None:
    """The fastest right one; among equals the default, else the most frugal. None when none is right."""
    while ended := finishers(entrants):
        default = ended[0]
        least = min(_cost(one, default) for one in ended)
        equal = [one for one in ended if _cost(one, default) <= NOISE * least]
        best = default if default in equal else min(equal, key=lambda one: (*_appetite(one.plan), _cost(one, default)))
        if _rows(best.plan) > 1:
            best.attempt(track.check_bits, best.plan)
        if not best.refused:
            return best
    return None


def right(entrants: Iterable[Entrant]) -> list[Entrant]:
    return [one for one in entrants if not one.refused]


def finishers(entrants: Iterable[Entrant]) -> list[Entrant]:
    """Those that ran to the end, and could be compared with each other in every round."""
    running = right(entrants)
    most = max((len(one.laps) for one in running), default=0)
    return [one for one in running if 0 < len(one.laps) == most]


def _has_equal_bits(plan: ExecutionPlan) -> bool:
    """Whether a row gives the same bits in every batch; asked again of the one that wins."""
    return plan.provider == OPENVINO or (plan.provider == CPU and plan.precision is Precision.INT8)


def _thread_counts(plan: ExecutionPlan, most: int) -> list[int]:
    """The plan's own, then all there are, then powers of two below them; a GPU does not ask for them."""
    if plan.provider == CUDA:
        return [plan.intra_op_threads]
    return [plan.intra_op_threads, most, *(1 << bit for bit in reversed(range((most - 1).bit_length())))]


def _run_counts(plan: ExecutionPlan, *, one_by_one: bool) -> list[int]:
    """The plan's own, then one run after the other, where that would not leave cores without work."""
    return [plan.runs_at_once, 1] if one_by_one else [plan.runs_at_once]


def _distinct(plans: Iterable[ExecutionPlan]) -> list[ExecutionPlan]:
    """Of those that run a crowd alike the first: a race is no reason to give a lone run more threads, or fewer."""
    by_crowd: dict[str, ExecutionPlan] = {}
    for plan in plans:
        share = plan.shared_threads
        by_crowd.setdefault(
            str(replace(plan, intra_op_threads=share, allow_spinning=plan.allow_spinning and share > 1)), plan
        )
    return list(by_crowd.values())


def _test(track: Track, entrants: Sequence[Entrant], progress: Progress) -> None:
    """Threads, spinning and batches compute the same: one self-test a provider and precision."""
    kinds: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        plan = entrant.plan
        kinds.setdefault(f"{plan.provider} {dict(plan.provider_options)} {plan.precision}", []).append(entrant)
    for first, *others in progress(list(kinds.values()), "self-test"):
        first.cosines = first.attempt(track.cosines, first.plan) or {}
        for other in others:
            other.cosines, other.refused = first.cosines, first.refused


def _round_sizes(entrants: int) -> Iterator[int]:
    """How many run in each round."""
    while entrants > FINALISTS:
        yield entrants
        entrants = max(FINALISTS, math.ceil(entrants / 2))
    yield from [entrants] * FINAL_LAPS


def _fastest(running: Sequence[Entrant], size: int) -> list[Entrant]:
    """The default and, in their order, those that cost least."""
    if len(running) <= size:
        return list(running)
    default, *others = running
    kept = sorted(others, key=lambda one: _cost(one, default))[: size - 1]
    return [one for one in running if one is default or one in kept]


def _cost(one: Entrant, default: Entrant) -> float:
    """Time a row by the default's, with what the race does not see added."""
    spinning = SPINNING_GAIN if one.plan.allow_spinning else 1.0
    batching = BATCHING_GAIN if _rows(one.plan) > _rows(default.plan) else 1.0
    return one.relative(default) * spinning * batching


def _appetite(plan: ExecutionPlan) -> tuple[bool, int, int, int]:
    """What a plan takes of the machine beside the time."""
    return plan.allow_spinning, plan.intra_op_threads, plan.runs_at_once, _rows(plan)


def _rows(plan: ExecutionPlan) -> int:
    return max(plan.rows(tower) or 1 for tower in Tower)


def _mean_ms(lap: RowMs) -> float:
    """Geometric: a tower that is half as slow weighs the same, whichever of them is the slower one."""
    return statistics.geometric_mean(lap.values())
