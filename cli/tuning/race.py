"""Times execution plans in interleaved laps and chooses the fastest correct plan."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from siglip_edge.cli.progress import progress
from siglip_edge.cli.tuning.timing import ModelTrial
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.execution.plan import ExecutionPlan

RowMs = dict[Tower, float]

LAPS = 5
"""Laps per plan, so that a median exists when one or two laps are disturbed."""

NOISE = 1.03
"""Factor by which a winner must be faster than the default; closer plans could change places in another race."""

SPINNING_GAIN = 1.10
"""Further factor for a plan whose idle threads spin. In a server they take cores from decoding, from tokenization and
from the other tower, which are not timed here."""

BATCHING_GAIN = 1.10
"""Further factor for a plan with more rows per run than the default: the first row waits for the last row, and larger
batches take more memory."""


@dataclass
class Entrant:
    """A plan, its self-test and its laps."""

    plan: ExecutionPlan
    cosines: dict[Tower, float] = field(default_factory=dict)
    laps: list[RowMs] = field(default_factory=list)
    refused: str = ""
    """Why the plan must not be served; empty when it may."""

    @property
    def row_ms(self) -> RowMs:
        """Milliseconds per row and tower: medians over the laps."""
        towers = self.laps[0] if self.laps else ()
        return {tower: statistics.median(lap[tower] for lap in self.laps) for tower in towers}

    def ratios(self, default: Entrant) -> list[float]:
        """Time per row divided by the default's in the same round, because the machine's speed changes."""
        pairs = zip(self.laps, default.laps, strict=False)  # the budget may end within a round
        return [_mean_ms(mine) / _mean_ms(its) for mine, its in pairs]

    def relative(self, default: Entrant) -> float:
        return statistics.median(self.ratios(default))

    @contextmanager
    def trying(self) -> Iterator[None]:
        """An exception in this context refuses this plan only."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - providers raise exceptions of any class
            self.refused = " ".join(str(error).split()) or type(error).__name__


def race(
    trial: ModelTrial, plans: Sequence[ExecutionPlan], budget_s: float, clock: Callable[[], float] = time.monotonic
) -> list[Entrant]:
    """Self-test all plans, then time the plans that passed in turn, `LAPS` times. -> entrants in the order of `plans`.

    `budget_s`: seconds of timing. The default plan comes first and is timed however small the budget is.
    """
    entrants = [Entrant(plan) for plan in plans]
    _test(trial, entrants)
    ends, running = clock() + budget_s, right(entrants)
    # Every second round runs backwards, so that no plan always runs after the same plan.
    laps = [one for number in range(LAPS) for one in running[:: -1 if number % 2 else 1]]
    for done, entrant in enumerate(progress(laps, "timing")):
        left_s = ends - clock()
        if left_s <= 0 and timed(entrants):
            break
        if not entrant.refused:
            with entrant.trying():
                entrant.laps.append(trial.lap(entrant.plan, max(0.0, left_s) / (len(laps) - done)))
    return entrants


def choose(trial: ModelTrial, entrants: Sequence[Entrant]) -> Entrant | None:
    """The fastest plan when it beats the default by more than `NOISE`; else the default; None when all are refused."""
    while running := timed(entrants):
        default = running[0]
        fastest = min(running, key=lambda one: one.relative(default) * _untimed(one, default))
        best = fastest if _beats(fastest, default) else default
        if _rows(best.plan) > 1:
            with best.trying():
                trial.check_bits(best.plan)
        if not best.refused:
            return best
    return None


def right(entrants: Iterable[Entrant]) -> list[Entrant]:
    """The entrants that are not refused."""
    return [one for one in entrants if not one.refused]


def timed(entrants: Iterable[Entrant]) -> list[Entrant]:
    """The entrants that are not refused and have laps; the first is the default, to which the others are compared."""
    return [one for one in right(entrants) if one.laps]


def _test(trial: ModelTrial, entrants: Sequence[Entrant]) -> None:
    """Run one self-test per provider and precision, because threads, spinning and batches change no result."""
    kinds: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        kinds.setdefault(f"{entrant.plan.place} {dict(entrant.plan.provider_options)}", []).append(entrant)
    for kind in progress(kinds.values(), "self-test"):
        with kind[0].trying():
            kind[0].cosines = trial.cosines(kind[0].plan)
        for entrant in kind:
            entrant.cosines, entrant.refused = kind[0].cosines, kind[0].refused


def _beats(one: Entrant, default: Entrant) -> bool:
    """Whether the plan is faster in every lap, and by more than `NOISE` in the median."""
    costs = [ratio * _untimed(one, default) for ratio in one.ratios(default)]
    return max(costs) < 1 and statistics.median(costs) * NOISE < 1


def _untimed(one: Entrant, default: Entrant) -> float:
    """The factor for costs that the laps do not measure."""
    spinning = SPINNING_GAIN if one.plan.allow_spinning else 1.0
    batching = BATCHING_GAIN if _rows(one.plan) > _rows(default.plan) else 1.0
    return spinning * batching


def _rows(plan: ExecutionPlan) -> int:
    return max(plan.rows(tower) or 1 for tower in Tower)


def _mean_ms(lap: RowMs) -> float:
    """Geometric mean over the towers, so that both weigh the same when one is slower."""
    return statistics.geometric_mean(lap.values())
