"""The turns of all models of a process."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial

import pytest

from siglip_edge.server.batching.run_turns import RunTurns
from tests.server.conftest import wait_until


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Runs:
    """Threads that ask for a turn and hold it until the test ends it."""

    def __init__(self, most: int) -> None:
        self.clock = Clock()
        self.turns = RunTurns(most, clock=self.clock)
        self.order: list[str] = []
        self._ends: dict[str, list[threading.Event]] = {}
        self._asked = 0

    def ask(self, model: str) -> None:
        """Ask for a turn in a thread; returns when the turn is under way or waits."""
        end = threading.Event()
        self._ends.setdefault(model, []).append(end)
        self._asked += 1
        threading.Thread(target=self._run, args=(model, end), daemon=True).start()
        wait_until(lambda: len(self.turns._waiting) + len(self.turns._under_way) == self._asked)

    def end(self, model: str, at: float) -> None:
        """End the oldest turn of a model."""
        self.clock.now = at
        self._ends[model].pop(0).set()
        self._asked -= 1
        wait_until(lambda: len(self.turns._waiting) + len(self.turns._under_way) == self._asked)

    @property
    def began(self) -> list[str]:
        return list(self.order)

    def _run(self, model: str, end: threading.Event) -> None:
        with self.turns.turn(model):
            self.order.append(model)
            end.wait(30)


def test_no_more_runs_than_allowed_are_under_way():
    """Of a hundred threads of three models."""
    turns, most, seen = RunTurns(3), 3, []

    def run(model: str) -> None:
        with turns.turn(model):
            seen.append(turns.under_way)

    threads = [threading.Thread(target=run, args=(f"model {number % 3}",)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 100
    assert max(seen) <= most
    assert turns.under_way == 0


def test_the_model_that_computed_least_goes_next():
    """A model with long runs does not keep a model with short runs waiting behind all of them."""
    runs = Runs(most=1)
    runs.ask("long")
    wait_until(lambda: runs.began == ["long"])
    for model in ("long", "long", "short", "short"):
        runs.ask(model)
    runs.end("long", at=60.0)
    wait_until(lambda: runs.began == ["long", "short"])
    runs.end("short", at=60.1)
    wait_until(lambda: runs.began == ["long", "short", "short"])
    runs.end("short", at=60.2)
    wait_until(lambda: runs.began == ["long", "short", "short", "long"])


def test_runs_under_way_count():
    """A model whose long run has not ended yet gives way as well."""
    runs = Runs(most=2)
    for model in ("long", "other"):
        runs.ask(model)
    wait_until(lambda: sorted(runs.began) == ["long", "other"])
    for model in ("long", "short"):
        runs.ask(model)
    runs.end("other", at=5.0)
    wait_until(lambda: runs.began[2:] == ["short"])


def test_a_model_saves_up_no_time_while_it_is_idle():
    """After an hour without work it shares the machine, and does not have it alone."""
    runs = Runs(most=1)
    runs.ask("busy")
    wait_until(lambda: runs.began == ["busy"])
    runs.clock.now = 3600.0
    for model in ("new", "new", "busy"):
        runs.ask(model)
    runs.end("busy", at=3600.0)
    wait_until(lambda: runs.began == ["busy", "new"])
    runs.end("new", at=3601.0)
    wait_until(lambda: runs.began == ["busy", "new", "busy"])


def test_one_model_takes_turns_in_order():
    runs = Runs(most=1)
    with ExitStack() as stack:
        stack.enter_context(runs.turns.turn("a"))
        order: list[int] = []

        def run(number: int) -> None:
            with runs.turns.turn("a"):
                order.append(number)

        def waiting(threads: int) -> bool:
            return len(runs.turns._waiting) == threads

        threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(partial(waiting, number))
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]


def test_a_failed_run_gives_its_turn_back():
    turns = RunTurns(1)
    with pytest.raises(ValueError, match="broken"), turns.turn("a"):
        raise ValueError("broken")
    with turns.turn("a"):
        assert turns.under_way == 1


def test_the_limit_is_that_of_the_model_that_asks_for_most():
    turns = RunTurns(1)
    turns.allow(3)
    turns.allow(2)
    with turns.turn("a"), turns.turn("a"), turns.turn("b"):
        assert turns.under_way == 3
