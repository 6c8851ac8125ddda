"""Requests that wait for a thread. Each costs a connection: no thread, and no memory for its body."""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitingLine(Generic[T]):
    """The free places, and the connections that wait for one, the longest first. For the loop's thread only."""

    def __init__(self, places: float = math.inf, most_waiting: float = 0) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[float, T]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def take_place(self) -> bool:
        """Whether a place was free. It is taken then, until `give_place`."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give_place(self) -> T | None:
        """-> the connection that has the place from now on. None: nobody waits, the place is free."""
        if self._waiting:
            return self._waiting.popleft()[1]
        self._free += 1
        return None

    def wait(self, connection: T, until: float) -> bool:
        """Whether there is room in the line. `until`: when `expired` gives the connection back."""
        if len(self._waiting) >= self._most_waiting:
            return False
        self._waiting.append((until, connection))
        return True

    def expired(self, now: float) -> list[T]:
        """The connections that have waited too long; they leave the line without a place."""
        late = []
        while self._waiting and self._waiting[0][0] <= now:
            late.append(self._waiting.popleft()[1])
        return late
