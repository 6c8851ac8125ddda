"""Facts of a request beside its inputs: id, deadline, time per stage, and whether the caller still waits."""

from __future__ import annotations

import re
import select
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from siglip_edge.runtime.artifacts.manifest import Tower

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

NO_FACE = "(none)"
"""The face of a path that no route matches."""

_HUNG_UP = getattr(select, "POLLRDHUP", 0)


@dataclass(kw_only=True)
class RequestContext:
    """A request. Clock: time.monotonic()."""

    request_id: str
    started: float
    deadline: float
    abandoned: Callable[[], bool] = lambda: False
    timings: dict[tuple[str, Tower], float] = field(default_factory=dict)
    """Seconds by stage (decode, tokenize, queue, inference) and tower."""
    face: str = NO_FACE
    """The name of the face that answers."""
    space: str | None = None
    """The embedding space that answered."""

    @contextmanager
    def stage(self, name: str, tower: Tower) -> Iterator[None]:
        """Add the block's time to a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.add(name, tower, time.monotonic() - started)

    def add(self, stage: str, tower: Tower, seconds: float) -> None:
        self.timings[stage, tower] = self.timings.get((stage, tower), 0.0) + seconds

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def server_timing(self) -> str:
        """The header's value, milliseconds, both towers' together: `decode;dur=1.2, total;dur=3.4`."""
        stages: defaultdict[str, float] = defaultdict(float)
        for (stage, _), seconds in self.timings.items():
            stages[stage] += seconds
        stages["total"] = self.elapsed
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in stages.items())


def request_id(given: str | None) -> str:
    """The caller's id when it is a plain word, else a new id."""
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def has_hung_up(connection: socket.socket) -> bool:
    """Whether the peer closed its side of the connection; always False where the system cannot tell."""
    watcher = select.poll()
    watcher.register(connection, _HUNG_UP)
    return bool(watcher.poll(0))
