"""Micro-batching: threads that run the rows of many requests together. Knows neither HTTP nor onnxruntime.

Each tower has one `MicroBatcher`. Requests take turns row by row, so a request with one row does not wait for all
hundred rows of another request.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic

from siglip_edge.runtime.errors import NotReady, Overloaded
from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.server.batching.batch_request import BatchRequest, OutT, RowT
from siglip_edge.server.batching.pace import Pace, UnderWay
from siglip_edge.server.batching.retry_after import retry_after

_NEVER_ABANDONED: Callable[[], bool] = lambda: False  # noqa: E731 - a constant


@dataclass(frozen=True)
class BatchReport:
    """One finished run."""

    rows: int
    seconds: float
    failed: bool
    waiting: int
    """Rows in the queue after the run."""


@dataclass(frozen=True)
class _Taken(Generic[RowT, OutT]):
    """A row of a batch, its request, and its place among the outputs of that request."""

    request: BatchRequest[RowT, OutT]
    place: int
    row: RowT


class MicroBatcher(Generic[RowT, OutT]):
    """Collects rows into batches and runs them in threads of its own.

    `run(rows)` returns one output per row, in the order of the rows. All rows of a run have the same shape key and
    keep within `limit`. `crowded_run` replaces `run` while there is work for every thread.
    `shape_key(row)`, `cost(row)`: depend on that row alone. The cost is in tokens or patches.
    `max_rows`: largest number of waiting rows.
    `wait_s`: seconds that a batch waits for more rows.
    `runs_at_once`: number of threads.
    `get_ready`: called before each turn is asked for; may take long, which counts in no pace, and must not raise.
    `turn`: each run is inside such a context. Rows that wait for it stay in the queue, so that they may share the run.
    `long_cost`: rows of a higher cost never occupy all threads, where there are several; short rows do not wait for
    them then. None: no row is long.
    `gives_way_to`: a micro-batcher that goes first. Before each run, this micro-batcher waits until the other one is
    idle, but not longer than an own run takes: it keeps at least half of the machine.
    `observe`: called after each run.
    """

    def __init__(
        self,
        run: Callable[[list[RowT]], Sequence[OutT]],
        *,
        name: str,
        limit: BatchLimit,
        max_rows: int,
        shape_key: Callable[[RowT], Hashable] = lambda row: None,  # noqa: ARG005
        cost: Callable[[RowT], int] = lambda row: 1,  # noqa: ARG005
        wait_s: float = 0.0,
        runs_at_once: int = 1,
        get_ready: Callable[[], object] = lambda: None,
        turn: Callable[[], AbstractContextManager[object]] = nullcontext,
        long_cost: int | None = None,
        crowded_run: Callable[[list[RowT]], Sequence[OutT]] | None = None,
        gives_way_to: MicroBatcher[RowT, OutT] | None = None,
        observe: Callable[[BatchReport], None] = lambda report: None,  # noqa: ARG005
    ) -> None:
        self._run = run
        self._crowded_run = crowded_run or run
        self._limit = limit
        self._max_rows = max_rows
        self._shape_key = shape_key
        self._cost = cost
        self._wait_s = wait_s
        self._get_ready = get_ready
        self._turn = turn
        self._long_cost = math.inf if long_cost is None else long_cost
        self._most_long = max(1, runs_at_once - 1)
        self._gives_way_to = gives_way_to
        self._observe = observe
        self._changed = threading.Condition()
        self._requests: deque[BatchRequest[RowT, OutT]] = deque()
        self._running = 0
        """Number of runs under way."""
        self._long_running = 0
        """Number of runs of long rows under way."""
        self._under_way: dict[int, UnderWay] = {}
        """Thread -> its run."""
        self._closed = False
        self.pace = Pace()
        self._last_finished = time.monotonic()
        self._threads = [
            threading.Thread(target=self._serve, name=f"batch-{name}-{number}", daemon=True)
            for number in range(runs_at_once)
        ]
        for thread in self._threads:
            thread.start()

    # -- the callers' side -------------------------------------------------------------------------------------------

    def submit(
        self,
        rows: Sequence[RowT],
        *,
        deadline: float,
        abandoned: Callable[[], bool] = _NEVER_ABANDONED,
        wait_for_room: bool = False,
    ) -> BatchRequest[RowT, OutT]:
        """Admit all rows or none. Raises Overloaded when the queue is full, and NotReady after `close`.

        `deadline`: on the clock of time.monotonic().
        `abandoned`: whether the caller has hung up; called before each run.
        `wait_for_room`: wait until the deadline for a place in the queue before raising Overloaded.
        """
        with self._changed:
            if wait_for_room:
                timeout = deadline - time.monotonic()
                self._changed.wait_for(lambda: self._closed or self._has_room(len(rows)), timeout)
            self._check_room(len(rows), deadline, self.pace.cost_s * sum(map(self._cost, rows)))
            now = time.monotonic()
            request: BatchRequest[RowT, OutT] = BatchRequest(rows, self._cost, deadline, abandoned, now)
            self._requests.append(request)
            self._changed.notify_all()
            return request

    def check_room(self, rows: int, *, deadline: float) -> None:
        """Raise Overloaded or NotReady if `rows` more rows cannot be admitted now: before their images are decoded."""
        with self._changed:
            self._check_room(rows, deadline)

    @property
    def batch_size(self) -> int:
        """Largest number of rows in one run."""
        return self._limit.rows or self._max_rows

    @property
    def depth(self) -> int:
        """Number of waiting rows."""
        with self._changed:
            return self._depth()

    @property
    def backlog_s(self) -> float:
        """Estimated seconds until every row that waits now has run; 0 before the first run."""
        with self._changed:
            return self._backlog_s()

    @property
    def is_busy(self) -> bool:
        with self._changed:
            return bool(self._requests or self._running)

    @property
    def oldest_run(self) -> UnderWay | None:
        """The run that began first of those under way. The readiness probe fails when it takes too long."""
        with self._changed:
            return min(self._under_way.values(), key=lambda run: run.since, default=None)

    @property
    def idle_since(self) -> float | None:
        """Moment of the last run's end, on the clock of time.monotonic(); None while there is work."""
        with self._changed:
            return None if self._requests or self._running else self._last_finished

    @property
    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def wait_idle(self, timeout: float) -> None:
        """Return when no row waits or runs, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._requests and not self._running, timeout)

    def close(self) -> None:
        """Refuse new rows, run the admitted rows, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self, rows: int, deadline: float, own_s: float = 0.0) -> None:
        """`own_s`: estimated seconds of the rows themselves, where they are known."""
        if self._closed:
            raise NotReady("the server is shutting down")
        backlog_s = self._backlog_s()
        if not self._has_room(rows):
            message = f"the queue is full: {self._depth()} rows wait, at most {self._max_rows} may; try again later"
        elif self._requests and time.monotonic() + backlog_s + own_s > deadline:
            own = f" and this request takes {own_s:.1f} s" if own_s > backlog_s else ""
            message = (
                f"the queue holds about {backlog_s:.1f} s of work{own}, more than the time of this request; "
                "try again later"
            )
        else:
            return
        raise Overloaded(message, retry_after_s=retry_after(backlog_s))

    def _has_room(self, rows: int) -> bool:
        """A request with more rows than the queue has is admitted when no other waits: it would be refused for ever."""
        depth = self._depth()
        return not depth or depth + rows <= self._max_rows

    def _depth(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _backlog_s(self) -> float:
        return self.pace.cost_s * sum(request.waiting_cost for request in self._requests)

    # -- the batch threads' side ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._wait_for_rows():
            self._get_ready()
            asked = time.monotonic()
            with self._turn():
                if batch := self._next_batch():
                    self._run_batch(batch, asked)
                    self._leave(batch)

    def _wait_for_rows(self) -> bool:
        """Wait until there are rows that this thread may take. -> False when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._takeable() or (self._closed and not self._requests))
            if not self._requests:
                return False
            if self._wait_s:
                self._changed.wait_for(lambda: self._closed or self._depth() >= self.batch_size, self._wait_s)
        if self._gives_way_to is not None:
            self._gives_way_to.wait_idle(timeout=self.pace.row_s * self.batch_size)
        return True

    def _next_batch(self) -> list[_Taken[RowT, OutT]]:
        """Take a batch, which may be empty: another thread was faster, or the requests are of no use any more."""
        with self._changed:
            now = time.monotonic()
            batch = self._take(now)
            for request in _requests_of(batch):
                request.enter(now)
            if batch:
                self._running += 1
                self._long_running += self._is_long(batch[0].row)
                cost = sum(self._cost(taken.row) for taken in batch)
                self._under_way[threading.get_ident()] = UnderWay(now, self.pace.cost_s * cost)
            else:
                self._changed.notify_all()  # dropped requests have left room
            return batch

    def _leave(self, batch: list[_Taken[RowT, OutT]]) -> None:
        """Note the end of a run."""
        with self._changed:
            self._running -= 1
            self._long_running -= self._is_long(batch[0].row)
            del self._under_way[threading.get_ident()]
            self._last_finished = time.monotonic()
            self._changed.notify_all()

    def _is_long(self, row: RowT) -> bool:
        return self._cost(row) > self._long_cost

    def _takeable(self) -> int:
        """Number of waiting rows that a thread may take now."""
        if self._long_running < self._most_long:
            return self._depth()
        return sum(request.count(lambda row: not self._is_long(row)) for request in self._requests)

    def _take(self, now: float) -> list[_Taken[RowT, OutT]]:
        """Take a batch from the queue: one row of each request in turn, all of one shape key.

        The next row of the longest waiting request sets the shape key. A request without such a row keeps its place,
        and a request whose last row is taken leaves the queue. The idle threads share the waiting rows evenly, because
        two small runs side by side are faster than one run of all rows.
        """
        batch: list[_Taken[RowT, OutT]] = []
        passed_over: deque[BatchRequest[RowT, OutT]] = deque()
        idle = len(self._threads) - self._running  # this thread included
        size = min(self.batch_size, -(-self._takeable() // idle))
        while self._requests and len(batch) < size:
            request = self._requests.popleft()
            if request.is_dropped(now):
                continue
            found = request.take(self._fits([taken.row for taken in batch]))
            if found is None:
                passed_over.append(request)
                continue
            batch.append(_Taken(request, *found))
            if request.waiting:
                self._requests.append(request)
        self._requests.extendleft(reversed(passed_over))
        return batch

    def _fits(self, rows: Sequence[RowT]) -> Callable[[RowT], bool]:
        """-> a test whether a row may join `rows` in one run."""
        if not rows:
            return lambda row: self._long_running < self._most_long or not self._is_long(row)
        shape_key, cost, limit = self._shape_key(rows[0]), sum(map(self._cost, rows)), self._limit
        return lambda row: self._shape_key(row) == shape_key and limit.allows(len(rows) + 1, cost + self._cost(row))

    def _run_batch(self, batch: list[_Taken[RowT, OutT]], asked: float) -> None:
        """`asked`: when the thread asked for its turn. The pace of the queue counts from there."""
        started = time.monotonic()
        side_by_side = len(self._threads) if self._is_crowded() else 1
        run = self._crowded_run if side_by_side > 1 else self._run
        outputs, failure = self._outputs(run, [taken.row for taken in batch])
        now = time.monotonic()
        with self._changed:  # two runs may hold rows of the same request
            self.pace.measure(
                rows=len(batch),
                cost=sum(self._cost(taken.row) for taken in batch),
                run_s=now - started,
                queue_s=now - asked,
                side_by_side=side_by_side,
            )
            for request in _requests_of(batch):
                request.leave(now)
            for taken, output in zip(batch, outputs, strict=False):  # a failed run has no outputs
                if taken.request.accept(taken.place, output):
                    taken.request.finish(now)
            if failure is not None:
                for taken in batch:
                    taken.request.fail(failure)  # `is_dropped` then removes its waiting rows
        self._observe(BatchReport(len(batch), now - started, failure is not None, self.depth))

    def _is_crowded(self) -> bool:
        """Whether the running batches and the waiting rows are work for every thread."""
        with self._changed:
            return self._running + self._takeable() >= len(self._threads)

    @staticmethod
    def _outputs(
        run: Callable[[list[RowT]], Sequence[OutT]], rows: list[RowT]
    ) -> tuple[Sequence[OutT], Exception | None]:
        try:
            outputs = run(rows)
            if len(outputs) != len(rows):
                return [], RuntimeError(f"{len(rows)} rows in, {len(outputs)} outputs out")
        except Exception as error:  # noqa: BLE001 - every error goes to the waiting requests; this thread lives on
            return [], error
        return outputs, None


def _requests_of(batch: list[_Taken[RowT, OutT]]) -> list[BatchRequest[RowT, OutT]]:
    """The requests with rows in the batch, each listed once."""
    return list({id(taken.request): taken.request for taken in batch}.values())
