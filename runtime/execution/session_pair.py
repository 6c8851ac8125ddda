"""Two sessions per tower: a lone run uses all threads, and each of several runs uses its share of the threads.

Threads that split a matrix wait for each other; runs side by side on different cores do not. A lone run on its share of
the threads would take longer. docs/decisions/runs-side-by-side.md has the measurements.
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
    """Runs batches in one of two sessions of a graph: one on all threads, the other on one share of `runs_at_once`.

    The second session opens when it is first needed and is compared bit by bit with the first. Both map the same file
    of weights.
    """

    def __init__(self, open_session: Callable[[int], GraphSession], *, threads: int, runs_at_once: int) -> None:
        """`open_session(threads)` opens a session. Raises like `open_session`."""
        self._open_session = open_session
        self._alone = open_session(threads)
        self._share = -(-threads // runs_at_once)
        self._shared = self._alone if self._share == threads else None
        self._opening = threading.Lock()

    def run(self, batch: Arrays, *, crowded: bool = False) -> Floats:
        """One batch -> (n, d) float32, n >= 1. `crowded`: the planned number of runs is under way."""
        session = self._opened(batch) if crowded else self._alone
        return session.run(batch)

    def shrink(self) -> None:
        """Free the buffers that both sessions keep between runs. Safe while other runs are under way."""
        self._alone.shrink()
        if self._shared is not None and self._shared is not self._alone:
            self._shared.shrink()

    def _opened(self, batch: Arrays) -> GraphSession:
        with self._opening:
            if self._shared is None:
                self._shared = self._compared(batch)
            return self._shared

    def _compared(self, batch: Arrays) -> GraphSession:
        """Open the session on a share of the threads; when it fails or gives other bits, use the session on all."""
        try:
            session = self._open_session(self._share)
        except ModelError as error:
            logger.warning("runs side by side share the threads of one session: %s", error)
            return self._alone
        if np.array_equal(session.run(batch), self._alone.run(batch)):
            return session
        logger.error("refused: on %d threads a tower answers otherwise than on all threads", self._share)
        return self._alone
