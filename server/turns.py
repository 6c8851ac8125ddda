"""When the refused may ask again: one after the other, so that they do not all come back at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_S = 60.0
"""To be told, but for a longer backlog: after more than two minutes OpenAI's Python client does not ask again."""


class Turns:
    """Hands out times at the pace of the work. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = -LONGEST_S
        """The latest time that was handed out."""

    def next(self, *, backlog_s: float, own_s: float) -> float:
        """-> seconds from now: behind what waits, and behind everyone who was told a time before.

        `own_s`: estimated seconds that the refused request itself will take of the machine.
        """
        with self._lock:
            now = self._clock()
            turn_s = max(backlog_s, min(self._last + own_s - now, LONGEST_S))
            self._last = now + turn_s
            return turn_s
