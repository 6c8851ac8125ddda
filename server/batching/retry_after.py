"""When a refused client may ask again: each at its own time, so that they do not all come back at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST_S = 60.0
"""Longest answer, unless the backlog is longer: OpenAI's Python client does not ask again after two minutes."""

_MOST_SPREAD = 4.0
_SPREADS, _CONTRACTS = 1.1, 0.99
"""Factors per refusal and per admission. With one refusal in ten requests the pace stays."""


class RetryAfter:
    """Gives refused clients times at the pace of the work, and slower when returning clients find no room. Thread-safe.

    A served client of a batch job asks again at once and takes the place that it has just left. Refused clients that
    return at the pace of the work would find no room again and again, and each refusal costs CPU time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._first = self._last = -LONGEST_S
        """First and last time of the current sequence. A new sequence begins when the last time has passed."""
        self._spread = 1.0

    def next(self, *, backlog_s: float, own_s: float) -> float:
        """-> seconds from now: after the backlog, and after every client that got a time before.

        `own_s`: estimated seconds of the machine that the refused request will take.
        """
        with self._lock:
            now = self._clock()
            if self._first <= now <= self._last:
                self._spread = min(self._spread * _SPREADS, _MOST_SPREAD)
            turn_s = max(backlog_s, min(self._last + self._spread * own_s - now, LONGEST_S))
            if now > self._last:
                self._first = now + turn_s
            self._last = now + turn_s
            return turn_s

    def taken(self) -> None:
        """Tell it that a request was admitted."""
        with self._lock:
            self._spread = max(self._spread * _CONTRACTS, 1.0)
