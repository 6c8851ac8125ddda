"""The measured pace of a lane: seconds per row and per token or patch."""

from __future__ import annotations

import time
from dataclasses import dataclass

_SMOOTHING = 0.2
"""Weight of the newest run in the averages of measured seconds; older runs fade within about ten runs."""


@dataclass
class Pace:
    """Averages over the last runs; 0 before the first run."""

    row_s: float = 0.0
    """Seconds per row: the time of a run divided by its rows."""
    between_s: float = 0.0
    """Seconds between two finished rows. With n runs side by side it is `row_s` divided by n."""
    cost_s: float = 0.0
    """Seconds until the queue is one token or patch shorter; the time that runs wait for their turn counts."""

    def measure(self, *, rows: int, cost: int, run_s: float, queue_s: float, side_by_side: int) -> None:
        """A run has ended. `queue_s`: seconds since its thread asked for a turn. `side_by_side`: runs at once."""
        self.row_s = _averaged(self.row_s, run_s / rows)
        self.between_s = _averaged(self.between_s, run_s / rows / side_by_side)
        self.cost_s = _averaged(self.cost_s, queue_s / cost / side_by_side)


@dataclass(frozen=True)
class UnderWay:
    """A run that has begun and not ended."""

    since: float
    """On the clock of time.monotonic()."""
    expected_s: float
    """Seconds that it should take, by the cost of its rows; 0 before the first run has ended."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


def _averaged(before: float, newest: float) -> float:
    return (1 - _SMOOTHING) * before + _SMOOTHING * newest if before else newest
