"""What belongs to one request beside its inputs: its id, its time, its stages, and whether anybody still waits."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

STAGES = ("decode", "tokenize", "queue", "inference")


@dataclass(kw_only=True)
class Call:
    """One request. Clock: time.monotonic()."""

    request_id: str
    started: float
    deadline: float
    abandoned: Callable[[], bool] = lambda: False
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by stage; `STAGES` are those of embedding."""
    space: str | None = None
    """The embedding space that answered."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's time to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - started)

    def add(self, stage: str, seconds: float) -> None:
        self.timings[stage] = self.timings.get(stage, 0.0) + seconds

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def server_timing(self) -> str:
        """The header's value, milliseconds: `decode;dur=1.2, total;dur=3.4`."""
        stages = {**self.timings, "total": self.elapsed}
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in stages.items())


def request_id(given: str | None) -> str:
    """The caller's id when it is a plain word, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the peer closed the connection: nothing to read but the end. False when that cannot be seen."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except ConnectionError:
        return True
    except (OSError, ValueError):  # TLS sockets cannot be peeked at
        return False
