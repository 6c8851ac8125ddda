"""Closed loops: a number of clients, each of which sends its next request when the last one is answered.

Runs in a process of its own, whose CPU time is reported: on a machine of two cores the clients' work is the server's
loss. A client that gets 429 waits as long as Retry-After says before it asks again, as OpenAI's client does; a client
that repeats at once would take the CPU from the served clients.
"""

from __future__ import annotations

import math
import statistics
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path

from siglip_edge.bench.bodies import Body, body_of
from siglip_edge.bench.connection import Connection
from siglip_edge.bench.servers import ServerFailed

_RETRY_S = 1.0  # where a refusal does not say
_ASK_AGAIN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}  # the second: another worker is loading


@dataclass(frozen=True)
class Work:
    """Which requests, to which port. `first`: number of the first request; a number always names the same input."""

    port: int
    kind: str
    photos: Path | None
    first: int


@dataclass
class Load:
    """Times in seconds on time.monotonic()'s clock."""

    clients: int
    answered: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of every request that got its embedding, warm-up and drain included."""
    refused: list[float] = field(default_factory=list)
    """Seconds of each 429, or 503 while a second worker loads."""
    timed_out: int = 0
    """Number of 504 answers: admitted, and then out of the server's time."""
    began: float = 0.0
    ended: float = 0.0
    """The counted window; the clients were busy before it, and stay so until every request in it is answered."""
    client_cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second. Not counted in the window, because of 26 answers in six seconds one is four per cent.

        If no request was refused: number of clients divided by the mean time of an answer (Little's law; a client's own
        pause between two requests is a thousandth of it). Else: from answers after the last answer before the window.
        """
        if not self.answered:
            return 0.0
        if not self.refused and not self.timed_out:
            return self.clients / statistics.mean(self.latencies)
        ends = sorted(end for _, end in self.answered)
        before, until = bisect_right(ends, self.began), bisect_right(ends, self.ended)
        if before == until:  # a window too short for an answer: of all the time
            return len(ends) / (ends[-1] - min(start for start, _ in self.answered))
        return (until - before) / (ends[until - 1] - (ends[before - 1] if before else self.began))

    @property
    def latencies(self) -> list[float]:
        """Of the requests that started in the window; of all requests if the window is too short."""
        inside = [end - start for start, end in self.answered if self.began <= start < self.ended]
        return inside or [end - start for start, end in self.answered]


def run_for(work: Work, clients: int, seconds: float, warm_up_s: float) -> Load:
    """Count for `seconds`, after a warm-up."""
    return _Clients(work, clients).run(seconds, warm_up_s)


def run_until(work: Work, clients: int, requests: int, seconds: float) -> Load:
    """`count` requests, fewer if they take longer than `seconds`. Only the answers are of interest."""
    return _Clients(work, clients, requests).run(seconds, warm_up_s=0)


class _Clients:
    def __init__(self, work: Work, clients: int, requests: float = math.inf) -> None:
        self._port, self._load, self._end = work.port, Load(clients), work.first + requests
        self._body: Body = body_of(work.kind, work.photos)
        self._numbers = count(work.first)
        self._counting = clients
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._failure: Exception | None = None
        self._threads = [threading.Thread(target=self._guarded) for _ in range(clients)]

    def run(self, seconds: float, warm_up_s: float) -> Load:
        """Raises ServerFailed for an answer that is not 200, 504, or a refusal with a time to ask again."""
        self._load.began = time.monotonic() + warm_up_s  # now that the bodies are there
        self._load.ended = self._load.began + seconds
        before = time.process_time()
        for thread in self._threads:
            thread.start()
            time.sleep(warm_up_s / len(self._threads))  # nobody's clients all arrive in the same millisecond
        for thread in self._threads:
            thread.join()
        self._load.client_cpu_s = time.process_time() - before
        if self._failure is not None:
            raise self._failure
        return self._load

    def _guarded(self) -> None:
        try:
            with Connection(self._port) as connection:
                self._loop(connection)
        except Exception as error:  # noqa: BLE001 - told by `run`, in the caller's thread
            self._failure = error
            self._done.set()

    def _loop(self, connection: Connection) -> None:
        counting = True
        while not self._done.is_set() and (number := next(self._numbers)) < self._end:
            started = time.monotonic()
            if counting and started >= self._load.ended:
                counting = False
                self._leave()
            status, retry_after = self._post(connection, number)
            ended = time.monotonic()
            if status == HTTPStatus.OK:
                self._load.answered.append((started, ended))
            elif status == HTTPStatus.GATEWAY_TIMEOUT:
                self._load.timed_out += 1
            else:
                self._load.refused.append(ended - started)
                again = ended + retry_after
                if counting and again >= self._load.ended:
                    self._done.wait(max(0.0, self._load.ended - ended))
                    counting = False
                    self._leave()
                self._done.wait(max(0.0, again - time.monotonic()))

    def _leave(self) -> None:
        """The last client with nothing more to count ends the load for all."""
        with self._lock:
            self._counting -= 1
            if not self._counting:
                self._done.set()

    def _post(self, connection: Connection, number: int) -> tuple[int, float]:
        """Status and, for a refusal, the seconds until the next try."""
        status, answer = connection.post(self._body(number))
        if status not in {HTTPStatus.OK, HTTPStatus.GATEWAY_TIMEOUT, *_ASK_AGAIN}:
            raise ServerFailed(f"{status}: {answer.body[:300]!r}")
        return status, float(answer.headers.get(b"retry-after", _RETRY_S))
