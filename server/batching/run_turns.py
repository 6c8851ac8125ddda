"""The turns of all models of a process: how many runs may be under way, and which waiting model begins the next."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Turn:
    model: str
    begun: threading.Event = field(default_factory=threading.Event)
    since: float = 0.0
    """Moment at which the run began."""


class RunTurns:
    """Lets at most `most` runs be under way at once, whatever their models. Thread-safe.

    A free turn goes to the waiting model that has computed for the least time. So a model with long runs makes another
    model wait for the runs under way, and not for those behind them. A model that was idle has saved up no time.
    """

    def __init__(self, most: int = 1, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[_Turn] = []
        self._under_way: list[_Turn] = []
        self._computed: defaultdict[str, float] = defaultdict(float)
        """Seconds of each model's finished runs. Only differences between models that are busy together count."""

    def allow(self, most: int) -> None:
        """Raise the limit to `most`; a smaller number changes nothing."""
        with self._lock:
            self._most = max(self._most, most)
            self._begin()

    @property
    def under_way(self) -> int:
        """Number of runs under way."""
        return len(self._under_way)

    @contextmanager
    def turn(self, model: str) -> Iterator[None]:
        """Wait for a turn of this model; the run is the body of the `with`."""
        turn = self._ask(model)
        turn.begun.wait()
        try:
            yield
        finally:
            self._end(turn)

    def _ask(self, model: str) -> _Turn:
        turn = _Turn(model)
        with self._lock:
            busy = {one.model for one in (*self._waiting, *self._under_way)}
            if busy and model not in busy:
                self._computed[model] = max(self._computed[model], min(map(self._seconds, busy)))
            self._waiting.append(turn)
            self._begin()
        return turn

    def _end(self, turn: _Turn) -> None:
        with self._lock:
            self._under_way.remove(turn)
            self._computed[turn.model] += self._clock() - turn.since
            self._begin()

    def _begin(self) -> None:
        """Begin waiting turns while the limit allows it. Of one model, the turn that has waited longest."""
        while self._waiting and len(self._under_way) < self._most:
            turn = min(self._waiting, key=lambda one: self._seconds(one.model))
            self._waiting.remove(turn)
            turn.since = self._clock()
            self._under_way.append(turn)
            turn.begun.set()

    def _seconds(self, model: str) -> float:
        """Seconds of the model's runs, those under way included."""
        now = self._clock()
        return self._computed[model] + sum(now - turn.since for turn in self._under_way if turn.model == model)
