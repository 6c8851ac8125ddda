"""Times execution plans in interleaved laps and keeps the fastest right one."""

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

NOISE = 1.03
"""A winner has to be this much faster than the default: another race might turn closer plans round."""

SPINNING_GAIN = 1.10
"""And this much more where idle threads spin: in a server they take cores from decoding, from tokenization and from the
other tower, which are not timed here."""

BATCHING_GAIN = 1.10
"""And this much more where more rows share a run: the first row waits for the last, and they take memory."""


@dataclass
class Entrant:
    """A plan, its self-test and its laps."""

    plan: ExecutionPlan
    cosines: dict[Tower, float] = field(default_factory=dict)
    laps: list[RowMs] = field(default_factory=list)
    refused: str = ""
    """Why it must not be served, or empty."""

    @property
    def row_ms(self) -> RowMs:
        """Medians over the laps."""
        towers = self.laps[0] if self.laps else ()
        return {tower: statistics.median(lap[tower] for lap in self.laps) for tower in towers}

    def ratios(self, default: Entrant) -> list[float]:
        """Time per row divided by the default's, for each lap: the machine's speed changes between rounds."""
        pairs = zip(self.laps, default.laps, strict=False)  # time may be over within a round
        return [_mean_ms(mine) / _mean_ms(its) for mine, its in pairs]

    def relative(self, default: Entrant) -> float:
        return statistics.median(self.ratios(default))

    @contextmanager
    def trying(self) -> Iterator[None]:
        """A failure refuses this plan and no other."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - providers raise what they like
            self.refused = " ".join(str(error).split()) or type(error).__name__


def race(
    trial: ModelTrial, plans: Sequence[ExecutionPlan], budget_s: float, clock: Callable[[], float] = time.monotonic
) -> list[Entrant]:
    """Self-test the plans, then time the right ones in turn, `LAPS` times. -> all of them, in the order of `plans`.

    The default, which comes first, is timed however small the budget is.
    """
    entrants = [Entrant(plan) for plan in plans]
    _test(trial, entrants)
    ends, running = clock() + budget_s, right(entrants)
    # Every second round runs backwards: no plan always runs after the same neighbour.
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
    """The fastest right one, if it beats the default by more than noise; else the default. None when none is right."""
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
    return [one for one in entrants if not one.refused]


def timed(entrants: Iterable[Entrant]) -> list[Entrant]:
    """The right ones that have laps; the first one is the default that the others are compared with."""
    return [one for one in right(entrants) if one.laps]


def _test(trial: ModelTrial, entrants: Sequence[Entrant]) -> None:
    """One self-test per provider and precision: threads, spinning and batches compute the same."""
    kinds: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        kinds.setdefault(f"{entrant.plan.place} {dict(entrant.plan.provider_options)}", []).append(entrant)
    for kind in progress(kinds.values(), "self-test"):
        with kind[0].trying():
            kind[0].cosines = trial.cosines(kind[0].plan)
        for entrant in kind:
            entrant.cosines, entrant.refused = kind[0].cosines, kind[0].refused


def _beats(one: Entrant, default: Entrant) -> bool:
    """Whether it is faster in every lap, and by more than `NOISE` in half of them."""
    costs = [ratio * _untimed(one, default) for ratio in one.ratios(default)]
    return max(costs) < 1 and statistics.median(costs) * NOISE < 1


def _untimed(one: Entrant, default: Entrant) -> float:
    """The factor for costs that no lap shows."""
    spinning = SPINNING_GAIN if one.plan.allow_spinning else 1.0
    batching = BATCHING_GAIN if _rows(one.plan) > _rows(default.plan) else 1.0
    return spinning * batching


def _rows(plan: ExecutionPlan) -> int:
    return max(plan.rows(tower) or 1 for tower in Tower)


def _mean_ms(lap: RowMs) -> float:
    """Geometric mean over the towers: both weigh the same, however slow each is."""
    return statistics.geometric_mean(lap.values())
