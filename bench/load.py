"""Closed loops: each client sends its next request when its last request is answered.

The clients run in a process of their own, and their CPU time is reported, because they share the cores with the server.
A client that gets 429 waits for the seconds of Retry-After, as OpenAI's client does. A client that repeats its request
at once would take CPU time from the clients that are served.
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

_RETRY_S = 1.0  # for a refusal without Retry-After
_ASK_AGAIN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}  # 503: another worker is loading


@dataclass(frozen=True)
class Work:
    """The requests of a load."""

    port: int
    kind: str
    photos: Path | None
    first: int
    """Number of the first request. A number always means the same input."""


@dataclass
class Load:
    """The requests of all clients. Moments are on the clock of time.monotonic()."""

    clients: int
    answered: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of every request that got its embedding, before, in and after the window."""
    refused: list[float] = field(default_factory=list)
    """Seconds of each 429, or 503 while a second worker loads."""
    timed_out: int = 0
    """Number of 504 answers: admitted, and then out of the server's time."""
    began: float = 0.0
    ended: float = 0.0
    """The measured window. Clients send requests before it, and until every request that began in it is answered."""
    client_cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answers per second.

        Without refusals: the number of clients divided by the mean latency (Little's law; the pause of a client between
        two requests is negligible). Counting the answers of a short window would be wrong by up to one answer. With
        refusals: the answers of the window, divided by the time from the last answer before it to its own last answer.
        """
        if not self.answered:
            return 0.0
        if not self.refused and not self.timed_out:
            return self.clients / statistics.mean(self.latencies)
        ends = sorted(end for _, end in self.answered)
        before, until = bisect_right(ends, self.began), bisect_right(ends, self.ended)
        if before == until:  # no answer in the window: count all answers
            return len(ends) / (ends[-1] - min(start for start, _ in self.answered))
        return (until - before) / (ends[until - 1] - (ends[before - 1] if before else self.began))

    @property
    def latencies(self) -> list[float]:
        """Seconds of each answered request that began in the window, or of all requests if none did."""
        inside = [end - start for start, end in self.answered if self.began <= start < self.ended]
        return inside or [end - start for start, end in self.answered]


def run_for(work: Work, clients: int, seconds: float, warm_up_s: float) -> Load:
    """Measure a window of `seconds`, after a warm-up."""
    return _Clients(work, clients).run(seconds, warm_up_s)


def run_until(work: Work, clients: int, requests: int, seconds: float) -> Load:
    """Send `requests` requests, or fewer if they take longer than `seconds`."""
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
        self._load.began = time.monotonic() + warm_up_s  # after the bodies have been prepared
        self._load.ended = self._load.began + seconds
        before = time.process_time()
        for thread in self._threads:
            thread.start()
            time.sleep(warm_up_s / len(self._threads))  # real clients do not all arrive in the same millisecond
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
        except Exception as error:  # noqa: BLE001 - `run` raises it in the thread of the caller
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
        """Note that a client has passed the window. The last one ends the load for all clients."""
        with self._lock:
            self._counting -= 1
            if not self._counting:
                self._done.set()

    def _post(self, connection: Connection, number: int) -> tuple[int, float]:
        """-> status, and for a refusal the seconds until the next try."""
        status, answer = connection.post(self._body(number))
        if status not in {HTTPStatus.OK, HTTPStatus.GATEWAY_TIMEOUT, *_ASK_AGAIN}:
            raise ServerFailed(f"{status}: {answer.body[:300]!r}")
        return status, float(answer.headers.get(b"retry-after", _RETRY_S))
