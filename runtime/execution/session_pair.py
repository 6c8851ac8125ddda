"""One tower's runs on the cores of one machine: all of them for a lone run, a share for each of several.

Threads that split a matrix wait for each other; runs side by side on cores of their own do not. On two cores a base
model embeds 19 % more texts and 8 % more images a second that way, but a lone run would take almost twice its time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.errors import ModelError
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.rows import Arrays

Floats = NDArray[np.float32]

logger = logging.getLogger("siglip_edge")


class SessionPair:
    """Runs batches in one of two sessions of a graph: on every thread, or, one of `runs_at_once`, on a share of them.

    `open_session(threads)` opens one. The second one is opened when it is first needed, and compared bit by bit with
    the first; its weights are the same mapped file.
    """

    def __init__(self, open_session: Callable[[int], GraphSession], *, threads: int, runs_at_once: int) -> None:
        """Raises like `open_session`."""
        self._open_session = open_session
        self._alone = open_session(threads)
        self._share = -(-threads // runs_at_once)
        self._shared = self._alone if self._share == threads else None
        self._opening = threading.Lock()

    def run(self, batch: Arrays, *, crowded: bool = False) -> Floats:
        """One batch -> (n, d) float32, n >= 1. `crowded`: as many runs as planned are under way."""
        session = self._opened(batch) if crowded else self._alone
        return session.run(batch)

    def shrink(self) -> None:
        """Free the buffers that runs have kept for the next ones. Safe beside runs."""
        self._alone.shrink()
        if self._shared is not None and self._shared is not self._alone:
            self._shared.shrink()

    def _opened(self, batch: Arrays) -> GraphSession:
        with self._opening:
            if self._shared is None:
                self._shared = self._compared(batch)
            return self._shared

    def _compared(self, batch: Arrays) -> GraphSession:
        """The session of few threads, or that of many where the other cannot be had or answers otherwise."""
        try:
            session = self._open_session(self._share)
        except ModelError as error:
            logger.warning("runs side by side share one session's threads: %s", error)
            return self._alone
        if np.array_equal(session.run(batch), self._alone.run(batch)):
            return session
        logger.error("refused: on %d threads a tower answers otherwise than on all of them", self._share)
        return self._alone
