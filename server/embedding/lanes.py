"""Lanes: a lane is the micro-batcher of one tower. This module decides their limits, and which tower goes first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable
from siglip_edge.runtime.model import Floats
from siglip_edge.runtime.rows import Row
from siglip_edge.server.batching.batcher import BatchReport
from siglip_edge.server.batching.run_turns import RunTurns
from siglip_edge.server.embedding.embedder import Lane
from siglip_edge.server.embedding.preparation import Model

logger = logging.getLogger("siglip_edge")


@dataclass(frozen=True, kw_only=True)
class LaneLimits:
    """Limits from the settings of the operator and from the execution plan."""

    queued_rows: int
    """Largest number of waiting rows per tower."""
    wait_s: float
    """Seconds that a batch waits for more rows."""
    turns: RunTurns
    """The turns of all models."""


_LONG_TEXT = 1024
"""Tokens above which a row takes seconds: only models with attention in blocks take so many."""


def make_lanes(
    name: str, model: Model, limits: LaneLimits, observe: Callable[[Tower, BatchReport], None]
) -> dict[Tower, Lane]:
    """-> one lane per served tower. `observe` is called after each run.

    The text lane goes first: texts are often searches that a person waits for, and images come in large amounts.
    """
    lanes: dict[Tower, Lane] = {}
    for tower in (Tower.TEXT, Tower.VISION):
        if tower in model.towers:
            run = _Run(model, tower)
            lanes[tower] = Lane(
                run,
                name=tower,
                limit=model.plan.batch_limit(tower),
                shape_key=attrgetter("shape_key"),
                cost=attrgetter("cost"),
                max_rows=limits.queued_rows,
                wait_s=limits.wait_s,
                runs_at_once=model.plan.runs_at_once,
                get_ready=partial(_load, model, tower),
                turn=partial(limits.turns.turn, name),
                long_cost=_LONG_TEXT if tower is Tower.TEXT else None,
                crowded_run=partial(run, crowded=True),
                gives_way_to=lanes.get(Tower.TEXT),
                observe=partial(observe, tower),
            )
    return lanes


def _load(model: Model, tower: Tower) -> None:
    """Load the tower if needed, outside of any turn: other towers run meanwhile."""
    with suppress(Exception):  # the run tries again, and its requests get the error
        model.load_tower(tower)


@dataclass(frozen=True)
class _Run:
    """Runs rows of one tower. -> one float32 (d,) vector per row."""

    model: Model
    tower: Tower

    def __call__(self, rows: list[Row], *, crowded: bool = False) -> list[Floats]:
        """Raises NotReady when the tower is not in memory and cannot be loaded."""
        try:
            self.model.load_tower(self.tower)
            # A vector in the cache must not keep the array of its whole batch in memory.
            return [vector.copy() for vector in self.model.run(self.tower, rows, crowded=crowded)]
        except (ModelError, ProviderUnavailable) as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence is enough without a traceback
            raise NotReady(f"the {self.tower} tower could not be loaded; the server's log says why") from None
