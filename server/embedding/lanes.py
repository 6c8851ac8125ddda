"""One lane (a micro-batcher) per tower: which rows run together, how many runs at once, and which tower goes first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable
from siglip_edge.runtime.model import Floats
from siglip_edge.runtime.rows import Row
from siglip_edge.server.batching.batcher import BatchReport
from siglip_edge.server.embedding.embedder import Lane
from siglip_edge.server.embedding.preparation import Model

logger = logging.getLogger("siglip_edge")


@dataclass(frozen=True, kw_only=True)
class LaneLimits:
    """Limits from the operator's settings and the execution plan."""

    queued_rows: int
    """Rows that may wait per tower."""
    wait_s: float
    """How long a batch waits for more rows."""
    runs_at_once: int
    """Runs of all towers together."""


def make_lanes(model: Model, limits: LaneLimits, observe: Callable[[Tower, BatchReport], None]) -> dict[Tower, Lane]:
    """One lane per served tower. The text lane goes first: a pile of images would make a search box wait.

    `observe` is called after each run.
    """
    turn = threading.BoundedSemaphore(limits.runs_at_once)
    lanes: dict[Tower, Lane] = {}
    for tower in (Tower.TEXT, Tower.VISION):
        if tower in model.towers:
            run = _Run(model, tower, turn)
            lanes[tower] = Lane(
                run,
                name=tower,
                limit=model.plan.batch_limit(tower),
                shape_key=attrgetter("shape_key"),
                cost=attrgetter("cost"),
                max_rows=limits.queued_rows,
                wait_s=limits.wait_s,
                runs_at_once=model.plan.runs_at_once,
                crowded_run=partial(run, crowded=True),
                gives_way_to=lanes.get(Tower.TEXT),
                observe=partial(observe, tower),
            )
    return lanes


@dataclass(frozen=True)
class _Run:
    """Rows of one tower -> one (d,) vector per row."""

    model: Model
    tower: Tower
    turn: threading.BoundedSemaphore

    def __call__(self, rows: list[Row], *, crowded: bool = False) -> list[Floats]:
        """Raises NotReady when the tower cannot be loaded at its first use, or again after it was unloaded."""
        try:
            self.model.load_tower(self.tower)  # takes no turn: the other tower's runs go on meanwhile
            with self.turn:
                # Copied: a kept vector must not keep its whole batch in memory.
                return [vector.copy() for vector in self.model.run(self.tower, rows, crowded=crowded)]
        except (ModelError, ProviderUnavailable) as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
            raise NotReady(f"the {self.tower} tower could not be loaded; the server's log says why") from None
