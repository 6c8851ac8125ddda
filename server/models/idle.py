"""Idle towers give memory back to the system: the buffers between runs and, with IDLE_UNLOAD_S, their weights."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.embedding.embedder import Lane

logger = logging.getLogger("siglip_edge")

REST_S = 1.0
"""Seconds without work after which a tower frees its buffers. The next run then takes 5 % longer (docs/memory.md)."""

_LEAST_WAIT_S = 0.01
"""Shortest pause between two looks, so that rounding errors of the clock cannot make the watch spin."""


class IdleWatch:
    """Calls `act(tower)` once per idle stretch, when the lane of the tower has had no work for `idle_s` seconds."""

    def __init__(self, act: Callable[[Tower], object], lanes: Mapping[Tower, Lane], idle_s: float) -> None:
        self._act = act
        self._lanes = lanes
        self._idle_s = idle_s
        self._done: dict[Tower, float] = {}
        """Tower -> beginning of the last idle stretch for which `act` was called."""
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="idle", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._look()):
            pass

    def _look(self) -> float:
        """Look at every lane. -> seconds until the next look."""
        return max(_LEAST_WAIT_S, min(self._look_at(tower, lane) for tower, lane in self._lanes.items()))

    def _look_at(self, tower: Tower, lane: Lane) -> float:
        """Act if this lane has been idle for long enough. -> seconds until it can be so next."""
        since = lane.idle_since
        if since is None or since == self._done.get(tower):
            return self._idle_s
        if (remaining := since + self._idle_s - time.monotonic()) > 0:
            return remaining
        self._act(tower)
        self._done[tower] = since
        return self._idle_s


def watch_for_unloading(model: EmbeddingModel, lanes: Mapping[Tower, Lane], idle_s: float) -> IdleWatch:
    """-> a watch that unloads idle towers and logs it. The next run of a tower loads it again."""

    def unload(tower: Tower) -> None:
        if model.unload(tower):
            logger.info("%s tower unloaded after %g idle seconds", tower, idle_s)

    return IdleWatch(unload, lanes, idle_s)
