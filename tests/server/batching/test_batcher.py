"""The micro-batcher, with a function and a gate in place of a model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from siglip_edge.runtime.errors import DeadlineExceeded, NotReady, Overloaded
from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.server.batching.batcher import MicroBatcher
from tests.server.conftest import wait_until


def far() -> float:
    return time.monotonic() + 60


class Held:
    """A run that waits at a gate and records its batches."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.failure: Exception | None = None

    def __call__(self, rows: list[int]) -> list[int]:
        self.batches.append(rows)
        self.entered.release()
        self.gate.wait(30)
        if self.failure:
            raise self.failure
        return [row * 10 for row in rows]


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def lane(held):
    lane = MicroBatcher(held, name="test", limit=BatchLimit(rows=4), max_rows=8)
    yield lane
    held.gate.set()
    lane.close()


def occupy(lane, held):
    """Occupy the run with one row, so that later rows wait in the queue."""
    request = lane.submit([0], deadline=far())
    assert held.entered.acquire(timeout=30)
    return request


def test_answers_belong_to_their_rows_in_order(lane, held):
    """Two requests of several rows get their own outputs back, in order."""
    held.gate.set()
    requests = [lane.submit([1, 2, 3], deadline=far()), lane.submit([4, 5], deadline=far())]
    assert [request.result() for request in requests] == [[10, 20, 30], [40, 50]]


def test_what_is_queued_runs_together(lane, held):
    """Rows that arrive during a run form the next batch: one row of each request in turn, up to the limit."""
    occupy(lane, held)
    requests = [lane.submit([1, 2, 3], deadline=far()), lane.submit([4, 5], deadline=far())]
    held.gate.set()
    assert [request.result() for request in requests] == [[10, 20, 30], [40, 50]]
    assert held.batches == [[0], [1, 4, 2, 5], [3]]


def test_admission_is_all_or_nothing(lane, held):
    """A request whose rows do not all fit is refused as a whole, and the queue does not change."""
    occupy(lane, held)
    lane.submit([1] * 6, deadline=far())
    with pytest.raises(Overloaded, match="6 rows wait, at most 8 may"):
        lane.submit([2] * 3, deadline=far())
    assert lane.depth == 6
    lane.submit([3] * 2, deadline=far())


def test_more_rows_than_the_queue_has_are_admitted_alone(lane, held):
    """Such a request is refused beside others, not for ever: queries and candidates of a ranking add up."""
    occupy(lane, held)
    lane.submit([1], deadline=far())
    with pytest.raises(Overloaded):
        lane.submit([2] * 9, deadline=far())
    held.gate.set()
    lane.wait_idle(30)
    assert lane.submit([2] * 9, deadline=far()).result() == [20] * 9


def test_waiting_for_room(lane, held):
    """With wait_for_room a request waits until the queue has drained, then is admitted."""
    occupy(lane, held)
    lane.submit([1] * 8, deadline=far())
    results: list[list[int]] = []
    waiter = threading.Thread(
        target=lambda: results.append(lane.submit([2] * 8, deadline=far(), wait_for_room=True).result())
    )
    waiter.start()
    held.gate.set()
    waiter.join(30)
    assert results == [[20] * 8]


def test_waiting_for_room_ends_with_the_deadline(lane, held):
    """With wait_for_room a request is refused when its time is up."""
    occupy(lane, held)
    lane.submit([1] * 8, deadline=far())
    with pytest.raises(Overloaded):
        lane.submit([2], deadline=time.monotonic(), wait_for_room=True)


def test_a_failed_run_fails_its_requests_and_the_thread_lives_on(lane, held):
    """Every request with a row in the failed batch gets the error, and the next batch is served."""
    held.failure = ValueError("broken")
    held.gate.set()
    with pytest.raises(ValueError, match="broken"):
        lane.submit([1, 2], deadline=far()).result()
    held.failure = None
    assert lane.submit([3], deadline=far()).result() == [30]
    assert lane.is_alive


def test_rows_left_of_a_failed_request_are_not_run(lane, held):
    """When one batch of a request fails, its later rows are dropped."""
    held.failure = ValueError("broken")
    request = lane.submit([1, 2, 3, 4, 5, 6], deadline=far())
    held.gate.set()
    with pytest.raises(ValueError, match="broken"):
        request.result()
    wait_until(lambda: not lane.is_busy)
    assert held.batches == [[1, 2, 3, 4]]


def test_a_run_with_too_few_outputs_fails_its_requests(held):
    """A run that returns too few outputs is an error: no row gets the output of another row."""
    lane: MicroBatcher[int, int] = MicroBatcher(
        lambda rows: rows[1:], name="test", limit=BatchLimit(rows=4), max_rows=8
    )
    with pytest.raises(RuntimeError, match="2 rows in, 1 outputs out"):
        lane.submit([1, 2], deadline=far()).result()
    assert lane.is_alive
    lane.close()


def test_cancelled_work_is_not_computed(lane, held):
    """A cancelled request's rows never reach the run."""
    occupy(lane, held)
    lane.submit([1, 2], deadline=far()).cancel()
    last = lane.submit([3], deadline=far())
    held.gate.set()
    assert last.result() == [30]
    assert held.batches == [[0], [3]]


def test_abandoned_work_is_not_computed(lane, held):
    """When the caller has hung up, its rows are dropped before they are run."""
    occupy(lane, held)
    gone = lane.submit([1, 2], deadline=far(), abandoned=lambda: True)
    last = lane.submit([3], deadline=far())
    held.gate.set()
    assert last.result() == [30]
    assert gone.future.cancelled()
    assert held.batches == [[0], [3]]


def test_work_whose_time_is_up_is_not_computed(lane, held):
    """A request past its deadline raises DeadlineExceeded and its rows are dropped."""
    occupy(lane, held)
    late = lane.submit([1], deadline=time.monotonic() + 0.001)
    with pytest.raises(DeadlineExceeded):
        late.result()
    last = lane.submit([3], deadline=far())
    held.gate.set()
    assert last.result() == [30]
    assert held.batches == [[0], [3]]


def test_more_work_than_the_deadline_allows_is_refused(lane, held):
    """A request that cannot finish within its time is refused at once, with the time to try again."""
    lane.pace.cost_s = 100.0
    occupy(lane, held)
    lane.submit([1, 2], deadline=far() + 1000)
    with pytest.raises(Overloaded, match=r"about 200\.0 s of work") as refusal:
        lane.submit([3], deadline=far())
    assert refusal.value.retry_after_s == 200.0


def test_a_request_that_alone_takes_longer_than_its_time_waits_for_an_idle_lane(lane, held):
    """Its own cost counts beside the queue's; an idle lane takes it, because the estimate may be old."""
    lane.pace.cost_s = 100.0
    occupy(lane, held)
    lane.submit([1], deadline=far() + 1000)
    with pytest.raises(Overloaded, match=r"about 100\.0 s of work and this request takes 300\.0 s"):
        lane.submit([2, 2, 2], deadline=far() + 100)
    lane.submit([3], deadline=far() + 1000).cancel()
    held.gate.set()
    lane.wait_idle(30)
    lane.pace.cost_s = 100.0
    assert lane.submit([2, 2, 2], deadline=far()).result() == [20, 20, 20]


def test_rows_wait_for_their_turn_in_the_queue(held):
    """A row that arrives meanwhile shares the run, and a caller that gives up is not computed."""
    turn = threading.Semaphore(0)
    lane = MicroBatcher(held, name="test", limit=BatchLimit(rows=4), max_rows=8, turn=lambda: turn)
    held.gate.set()
    early, gone, late = (lane.submit([row], deadline=far()) for row in (1, 2, 3))
    assert lane.depth == 3
    gone.cancel()
    turn.release()
    assert (early.result(), late.result()) == ([10], [30])
    assert held.batches == [[1, 3]]
    lane.close()


def test_a_thread_gets_ready_before_it_asks_for_its_turn(held):
    """So that a tower that loads for long keeps no turn from other models."""
    held.gate.set()
    order: list[str] = []

    @contextmanager
    def turn() -> Iterator[None]:
        order.append("turn")
        yield

    lane = MicroBatcher(
        held, name="test", limit=BatchLimit(rows=4), max_rows=8, get_ready=lambda: order.append("ready"), turn=turn
    )
    assert lane.submit([1], deadline=far()).result() == [10]
    assert order == ["ready", "turn"]
    lane.close()


def test_short_rows_do_not_wait_for_long_ones():
    """Of two threads, long rows occupy one, and the other takes every short row; a lone long row has all cores."""
    doors, crowd = Doors(40), Doors(40)
    lane = MicroBatcher(
        doors, crowded_run=crowd, name="test", limit=BatchLimit(rows=1), max_rows=8, runs_at_once=2,
        cost=lambda row: row + 1, long_cost=20,
    )  # fmt: skip
    long = lane.submit([30, 31], deadline=far())
    assert doors.entered.acquire(timeout=30)
    for door in crowd.doors:
        door.set()
    short = [lane.submit([row], deadline=far()) for row in (1, 2)]
    assert [request.result() for request in short] == [[10], [20]]
    assert lane.depth == 1
    for door in doors.doors:
        door.set()
    assert long.result() == [300, 310]
    lane.close()


def test_closing_finishes_long_rows_too():
    doors = Doors(40)
    lane = MicroBatcher(
        doors, name="test", limit=BatchLimit(rows=1), max_rows=8, runs_at_once=2, cost=lambda row: row, long_cost=20
    )
    request = lane.submit([30, 31, 32], deadline=far())
    for door in doors.doors:
        door.set()
    lane.close()
    assert request.result() == [300, 310, 320]


def test_the_lane_that_gives_way_waits_for_the_other_but_not_for_ever():
    """A lane waits while the lane that goes first is busy, but not longer than one of its own runs takes."""
    first_held, second_held = Held(), Held()
    second_held.gate.set()
    first = MicroBatcher(first_held, name="first", limit=BatchLimit(rows=1), max_rows=8)
    second = MicroBatcher(second_held, name="second", limit=BatchLimit(rows=1), max_rows=8, gives_way_to=first)
    second.pace.row_s = 3600.0  # long: it would wait an hour
    occupy(first, first_held)
    waiting = second.submit([1], deadline=time.monotonic() + 7200)
    wait_until(lambda: second.depth == 1)
    assert second_held.batches == []
    first_held.gate.set()
    assert waiting.result() == [10]

    second.pace.row_s = 1e-6  # short: it goes although the first lane is held
    first_held.gate.clear()
    occupy(first, first_held)
    assert second.submit([2], deadline=far()).result() == [20]
    first_held.gate.set()
    first.close()
    second.close()


def test_the_oldest_run_is_seen_with_the_time_that_it_should_take(lane, held):
    """By the cost of its rows, once a run was measured; an idle lane has none."""
    assert lane.oldest_run is None
    request = occupy(lane, held)
    run = lane.oldest_run
    assert run is not None
    wait_until(lambda: run.seconds > 0)
    assert run.expected_s == 0
    held.gate.set()
    request.result()
    wait_until(lambda: lane.oldest_run is None)
    lane.pace.cost_s = 40.0
    held.gate.clear()
    occupy(lane, held)
    run = lane.oldest_run
    assert run is not None
    assert run.expected_s == 40


def test_closing_finishes_what_was_admitted(held):
    """After close, admitted rows are answered and new ones refused."""
    lane = MicroBatcher(held, name="test", limit=BatchLimit(rows=4), max_rows=8)
    request = lane.submit([1, 2], deadline=far())
    held.gate.set()
    lane.close()
    assert request.result() == [10, 20]
    with pytest.raises(NotReady):
        lane.submit([3], deadline=far())


def test_a_hundred_threads_get_their_own_answers(held):
    """Under contention every request gets the outputs of its own rows."""
    held.gate.set()
    lane = MicroBatcher(held, name="test", limit=BatchLimit(rows=7), max_rows=1000)
    wrong: list[int] = []

    def ask(number: int) -> None:
        rows = [number, number + 1000, number + 2000]
        if lane.submit(rows, deadline=far()).result() != [row * 10 for row in rows]:
            wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    lane.close()
    assert wrong == []
    assert sum(map(len, held.batches)) == 300


class Doors:
    """A run of one row that waits at a gate of that row."""

    def __init__(self, rows: int) -> None:
        self.doors = [threading.Event() for _ in range(rows)]
        self.entered = threading.Semaphore(0)
        self.failing: set[int] = set()

    def __call__(self, rows: list[int]) -> list[int]:
        (row,) = rows
        self.entered.release()
        self.doors[row].wait(30)
        if row in self.failing:
            raise RuntimeError(f"row {row}")
        return [row * 10]


@pytest.fixture
def side_by_side():
    doors = Doors(3)
    lane = MicroBatcher(doors, name="test", limit=BatchLimit(rows=1), max_rows=8, runs_at_once=2)
    yield lane, doors
    for door in doors.doors:
        door.set()
    lane.close()


def test_rows_side_by_side_come_back_in_order(side_by_side):
    """Two rows of one request run at the same time, and the second row finishes first."""
    lane, doors = side_by_side
    request = lane.submit([0, 1], deadline=far())
    assert doors.entered.acquire(timeout=30)
    assert doors.entered.acquire(timeout=30)
    doors.doors[1].set()
    wait_until(lambda: 1 in request._outputs)
    doors.doors[0].set()
    assert request.result() == [0, 10]
    assert 0 < request.inference_s <= request.finished - request.submitted


def test_a_run_beside_others_takes_its_share_of_the_machine(side_by_side):
    """The backlog counts rows at the pace of both threads, and the time of a single run at the pace of one."""
    lane, doors = side_by_side
    for door in doors.doors:
        door.set()
    lane.submit([0], deadline=far()).result()
    wait_until(lambda: lane.idle_since is not None)
    assert lane.pace.between_s == lane.pace.row_s > 0
    lane.submit([0, 1, 2], deadline=far()).result()
    assert lane.pace.between_s < lane.pace.row_s


def test_a_batch_leaves_rows_for_whoever_is_idle():
    """Two idle threads take four of eight rows each, with `crowded_run`; a single row runs with `run`."""
    held, crowd = Held(), Held()
    lane = MicroBatcher(held, crowded_run=crowd, name="test", limit=BatchLimit(rows=8), max_rows=8, runs_at_once=2)
    request = lane.submit(list(range(8)), deadline=far())
    assert all(crowd.entered.acquire(timeout=30) for _ in range(2))
    crowd.gate.set()
    assert request.result() == [row * 10 for row in range(8)]
    assert sorted(crowd.batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    wait_until(lambda: not lane.is_busy)
    occupy(lane, held)
    assert held.batches == [[0]]
    lane.submit([1, 2, 3], deadline=far()).result()  # the other thread is the only idle one
    assert [1, 2, 3] in crowd.batches
    held.gate.set()
    lane.close()


def test_runs_side_by_side_fail_alone(side_by_side):
    """When both rows of a request fail, it gets one error, and both threads of the lane live on."""
    lane, doors = side_by_side
    doors.failing = {0, 1}
    request = lane.submit([0, 1], deadline=far())
    assert doors.entered.acquire(timeout=30)
    assert doors.entered.acquire(timeout=30)
    doors.doors[0].set()
    doors.doors[1].set()
    with pytest.raises(RuntimeError, match="row"):
        request.result()
    doors.doors[2].set()
    assert lane.submit([2, 2], deadline=far()).result() == [20, 20]
    assert lane.is_alive
