"""Micro-batching: rows of many requests, and the threads that run them. Knows neither HTTP nor onnxruntime.

A tower has one `MicroBatcher`, its lane. Requests take turns row by row inside a lane, so a request with one row
does not wait for all of another's hundred.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic

from siglip_edge.runtime.errors import NotReady, Overloaded
from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.server.batching.batch_request import BatchRequest, OutT, RowT
from siglip_edge.server.batching.retry_after import retry_after

_SMOOTHING = 0.2
"""Weight of the newest batch in measured seconds: an average over about the last ten."""

_NEVER_ABANDONED: Callable[[], bool] = lambda: False  # noqa: E731 - a constant


@dataclass(frozen=True)
class BatchReport:
    """One finished run: how many rows, how long, whether it failed, and how many rows wait after it."""

    rows: int
    seconds: float
    failed: bool
    waiting: int


@dataclass(frozen=True)
class _Taken(Generic[RowT, OutT]):
    """A row of a batch, whose it is, and its place there."""

    job: BatchRequest[RowT, OutT]
    place: int
    row: RowT


class MicroBatcher(Generic[RowT, OutT]):
    """`run(rows) -> outputs` of the same number and order, called with rows of one shape key within `limit`.

    One thread calls it, or as many as `runs_at_once`, and `crowded_run` instead where there is work for all of them.
    `shape_key(row)` and `cost(row)` depend on that row alone. `max_rows` bounds the rows waiting. `gives_way_to` is a
    lane that goes first: before each run this one waits for it to be idle, but no longer than its own runs take, so it
    keeps at least half of the machine.
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
        self._gives_way_to = gives_way_to
        self._observe = observe
        self._changed = threading.Condition()
        self._jobs: deque[BatchRequest[RowT, OutT]] = deque()
        self._running = 0
        """Runs under way."""
        self._closed = False
        self._row_s = 0.0
        self._pace_s = 0.0
        self._cost_pace_s = 0.0
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
        """Admit all rows or none. `deadline` is on time.monotonic()'s clock; `abandoned` is asked before each run.

        Raises Overloaded when the queue is full, or stays so until the deadline with `wait_for_room`.
        """
        with self._changed:
            if wait_for_room:
                timeout = deadline - time.monotonic()
                self._changed.wait_for(lambda: self._closed or self._has_room(len(rows)), timeout)
            self._check_room(len(rows), deadline)
            now = time.monotonic()
            if not self._jobs and not self._running:
                self._last_finished = now  # the age of work counts from its arrival
            job: BatchRequest[RowT, OutT] = BatchRequest(rows, self._cost, deadline, abandoned, now)
            self._jobs.append(job)
            self._changed.notify_all()
            return job

    def check_room(self, rows: int, *, deadline: float) -> None:
        """Raise Overloaded now if `rows` more could not be admitted: cheaper than decoding them first."""
        with self._changed:
            self._check_room(rows, deadline)

    @property
    def batch_size(self) -> int:
        """Most rows in one run."""
        return self._limit.rows or self._max_rows

    @property
    def depth(self) -> int:
        """Rows waiting."""
        with self._changed:
            return self._depth()

    @property
    def backlog_s(self) -> float:
        """Estimated seconds until what waits now has run; 0 before the first run."""
        with self._changed:
            return self._backlog_s()

    @property
    def is_busy(self) -> bool:
        with self._changed:
            return bool(self._jobs or self._running)

    @property
    def row_s(self) -> float:
        """Measured seconds of a run by its rows; 0 before the first run."""
        return self._row_s

    @property
    def pace_s(self) -> float:
        """Measured seconds from row to row: where runs are side by side, each has its share of the machine.

        0 before the first run.
        """
        return self._pace_s

    @property
    def stalled_s(self) -> float:
        """Seconds since a run finished while there was work; 0 when idle. What readiness is made of."""
        with self._changed:
            return time.monotonic() - self._last_finished if self._jobs or self._running else 0.0

    @property
    def idle_since(self) -> float | None:
        """When the last run finished, on time.monotonic()'s clock; None while there is work."""
        with self._changed:
            return None if self._jobs or self._running else self._last_finished

    @property
    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def wait_idle(self, timeout: float) -> None:
        """Return when no row waits or runs, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs and not self._running, timeout)

    def close(self) -> None:
        """Refuse new work, finish what was admitted, end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _check_room(self, rows: int, deadline: float) -> None:
        if self._closed:
            raise NotReady("the server is shutting down")
        backlog_s = self._backlog_s()
        if not self._has_room(rows):
            message = f"the queue is full: {self._depth()} rows wait, at most {self._max_rows} may"
        elif self._jobs and time.monotonic() + backlog_s > deadline:
            message = f"the queue holds about {backlog_s:.1f} s of work, more than this request's time"
        else:
            return
        raise Overloaded(message, retry_after_s=retry_after(backlog_s))

    def _has_room(self, rows: int) -> bool:
        return self._depth() + rows <= self._max_rows

    def _depth(self) -> int:
        return sum(job.waiting for job in self._jobs)

    def _backlog_s(self) -> float:
        return self._cost_pace_s * sum(job.waiting_cost for job in self._jobs)

    # -- the batch threads' side ------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._run_batch(batch)
            with self._changed:
                self._running -= bool(batch)
                self._last_finished = time.monotonic()
                self._changed.notify_all()

    def _next_batch(self) -> list[_Taken[RowT, OutT]] | None:
        """Wait for work and take a batch; None when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return None
            if self._wait_s:
                self._changed.wait_for(lambda: self._closed or self._depth() >= self.batch_size, self._wait_s)
        if self._gives_way_to is not None:
            self._gives_way_to.wait_idle(timeout=self._row_s * self.batch_size)
        with self._changed:
            now = time.monotonic()
            batch = self._take(now)
            for job in _jobs(batch):
                job.enter(now)
            self._running += bool(batch)
            return batch

    def _take(self, now: float) -> list[_Taken[RowT, OutT]]:
        """One row of each request in turn, of one shape key, as many as an idle thread's share of the rows.

        The longest waiting request's next row sets the shape key. A request without such a row keeps its place; a
        request whose last row is taken leaves the queue. Of eight small images in one request two threads with four
        each make 1.6 times as many per second as one thread with all.
        """
        batch: list[_Taken[RowT, OutT]] = []
        passed_over: deque[BatchRequest[RowT, OutT]] = deque()
        idle = len(self._threads) - self._running  # this one too
        size = min(self.batch_size, -(-self._depth() // idle))
        while self._jobs and len(batch) < size:
            job = self._jobs.popleft()
            if job.is_dropped(now):
                continue
            found = job.take(self._fits([taken.row for taken in batch]))
            if found is None:
                passed_over.append(job)
                continue
            batch.append(_Taken(job, *found))
            if job.waiting:
                self._jobs.append(job)
        self._jobs.extendleft(reversed(passed_over))
        return batch

    def _fits(self, rows: Sequence[RowT]) -> Callable[[RowT], bool]:
        """Whether a row may join these in one run."""
        if not rows:
            return lambda row: True  # noqa: ARG005
        shape_key, cost, limit = self._shape_key(rows[0]), sum(map(self._cost, rows)), self._limit
        return lambda row: self._shape_key(row) == shape_key and limit.allows(len(rows) + 1, cost + self._cost(row))

    def _run_batch(self, batch: list[_Taken[RowT, OutT]]) -> None:
        started = time.monotonic()
        side_by_side = len(self._threads) if self._is_crowded() else 1
        run = self._crowded_run if side_by_side > 1 else self._run
        outputs, failure = self._outputs(run, [taken.row for taken in batch])
        now = time.monotonic()
        with self._changed:  # rows of one request may be in two runs
            row_s = (now - started) / len(batch)
            self._row_s = _averaged(self._row_s, row_s)
            self._pace_s = _averaged(self._pace_s, row_s / side_by_side)
            cost = sum(self._cost(taken.row) for taken in batch)
            self._cost_pace_s = _averaged(self._cost_pace_s, (now - started) / cost / side_by_side)
            for job in _jobs(batch):
                job.leave(now)
            for taken, output in zip(batch, outputs, strict=False):  # no outputs after a failure
                if taken.job.accept(taken.place, output):
                    taken.job.finish(now)
            if failure is not None:
                for taken in batch:
                    taken.job.fail(failure)  # its rows still waiting are dropped when their turn comes
        self._observe(BatchReport(len(batch), now - started, failure is not None, self.depth))

    def _is_crowded(self) -> bool:
        """Whether what runs, and what waits, is work for every thread."""
        with self._changed:
            return self._running + self._depth() >= len(self._threads)

    @staticmethod
    def _outputs(
        run: Callable[[list[RowT]], Sequence[OutT]], rows: list[RowT]
    ) -> tuple[Sequence[OutT], Exception | None]:
        try:
            outputs = run(rows)
            if len(outputs) != len(rows):
                return [], RuntimeError(f"{len(rows)} rows in, {len(outputs)} outputs out")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the waiting requests' and not this thread's
            return [], error
        return outputs, None


def _averaged(before: float, newest: float) -> float:
    return (1 - _SMOOTHING) * before + _SMOOTHING * newest if before else newest


def _jobs(batch: list[_Taken[RowT, OutT]]) -> list[BatchRequest[RowT, OutT]]:
    """Each once."""
    return list({id(taken.job): taken.job for taken in batch}.values())
