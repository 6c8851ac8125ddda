"""Memory of towers that nobody uses goes back to the system."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from runtime.manifest import Tower
from runtime.model import SiglipModel
from server.embedding import Lane

logger = logging.getLogger("siglip_edge")

_LEAST_WAIT_S = 0.01


class IdleUnloader:
    """Unloads each tower whose lane has had no work for `idle_s` seconds; its next run loads it again."""

    def __init__(self, model: SiglipModel, lanes: Mapping[Tower, Lane], idle_s: float) -> None:
        self._model = model
        self._lanes = lanes
        self._idle_s = idle_s
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="idle-unload", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._unload_idle()):
            pass

    def _unload_idle(self) -> float:
        """-> seconds until the next tower can have been idle for long enough."""
        loaded = self._model.loaded()
        for tower in loaded:
            if self._lanes[tower].idle_s >= self._idle_s:
                self._model.unload(tower)
                logger.info("%s tower unloaded after %g idle seconds", tower, self._idle_s)
        remaining = [self._idle_s - self._lanes[tower].idle_s for tower in self._model.loaded()]
        return max(min(remaining, default=self._idle_s), _LEAST_WAIT_S)
