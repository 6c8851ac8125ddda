"""The rows of one request in one lane: runs take them one by one, and their outputs are gathered in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from operator import itemgetter
from typing import Generic, TypeVar

from siglip_edge.runtime.errors import DeadlineExceeded

RowT = TypeVar("RowT")
OutT = TypeVar("OutT")


class BatchRequest(Generic[RowT, OutT]):
    """The rows of one request in one lane. The outputs have the order of the rows.

    `result` and `cancel` may be called by any thread; the batcher calls every other method under its lock.
    """

    def __init__(
        self,
        rows: Sequence[RowT],
        cost: Callable[[RowT], int],
        deadline: float,
        abandoned: Callable[[], bool],
        now: float,
    ) -> None:
        self.future: Future[list[OutT]] = Future()
        self.submitted = now
        self.finished = now
        self.inference_s = 0.0
        """Seconds in which at least one run with rows of this request was under way. The rest of the time it queued."""
        self._runs = 0
        self._running_since = now
        self._deadline = deadline
        self._abandoned = abandoned
        self._waiting = list(enumerate(rows))
        self._cost = cost
        self.waiting_cost = sum(map(cost, rows))
        """Cost (tokens or patches) of the rows that have not run yet."""
        self._outputs: dict[int, OutT] = {}
        self._missing = len(rows)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def queue_s(self) -> float:
        return max(0.0, self.finished - self.submitted - self.inference_s)

    def result(self) -> list[OutT]:
        """Wait for the outputs. Raises DeadlineExceeded after the deadline, or the exception that a run raised."""
        try:
            return self.future.result(max(0.0, self._deadline - time.monotonic()))
        except (FutureTimeout, CancelledError):
            self.cancel()
            raise DeadlineExceeded("the request ran out of time in the queue; try again later") from None

    def cancel(self) -> None:
        """Give up the outputs: rows that have not run yet never run."""
        self.future.cancel()

    def take(self, fits: Callable[[RowT], bool]) -> tuple[int, RowT] | None:
        """Remove the first waiting row that fits -> its place among the outputs, and the row. None: no row fits."""
        found = next((at for at, (_, row) in enumerate(self._waiting) if fits(row)), None)
        if found is None:
            return None
        place, row = self._waiting.pop(found)
        self.waiting_cost -= self._cost(row)
        return place, row

    def count(self, kind: Callable[[RowT], bool]) -> int:
        """Number of waiting rows of this kind."""
        return sum(kind(row) for _, row in self._waiting)

    def is_dropped(self, now: float) -> bool:
        """Whether the outputs are of no use: the request is cancelled or late, or its caller has hung up."""
        if not self.future.done() and (now > self._deadline or self._abandoned()):
            self.cancel()
        return self.future.done()

    def enter(self, now: float) -> None:
        """Note that a run with rows of this request begins."""
        if not self._runs:
            self._running_since = now
        self._runs += 1

    def leave(self, now: float) -> None:
        """Note that such a run has ended."""
        self._runs -= 1
        if not self._runs:
            self.inference_s += now - self._running_since

    def accept(self, place: int, output: OutT) -> bool:
        """Keep the output of one row. -> whether the request has all of its outputs now."""
        self._outputs[place] = output
        self._missing -= 1
        return not self._missing

    def finish(self, now: float) -> None:
        self.finished = now
        if self.future.set_running_or_notify_cancel():
            self.future.set_result([output for _, output in sorted(self._outputs.items(), key=itemgetter(0))])

    def fail(self, error: BaseException) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
