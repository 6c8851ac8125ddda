"""Embeddings by content: least recently used ones leave first, and what is being computed is computed once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

ENTRY_OVERHEAD = 512
"""Bytes a kept entry costs beyond its vector: key, future, links. Measured with tracemalloc, rounded up."""


@dataclass(frozen=True)
class Claim(Generic[ValueT]):
    """The future of a value. Who `owns` it must `settle` or `give_up`; everybody else waits."""

    key: Hashable
    future: Future[ValueT]
    owns: bool


class EmbeddingCache(Generic[ValueT]):
    """Thread-safe. `max_bytes` 0 keeps nothing, and still computes identical inputs in flight once."""

    def __init__(self, max_bytes: int, count: Callable[[bool], None] = lambda hit: None) -> None:  # noqa: ARG005
        self._max_bytes = max_bytes
        self._count = count
        self._lock = threading.Lock()
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Future[ValueT], int]] = OrderedDict()
        self._in_flight: dict[Hashable, Future[ValueT]] = {}

    def claim(self, key: Hashable) -> Claim[ValueT]:
        """A hit is a future that is done or somebody else's; a miss is one to settle."""
        with self._lock:
            future = self._find(key)
            owns = future is None
            if future is None:
                future = self._in_flight[key] = Future()
        self._count(not owns)
        return Claim(key, future, owns)

    def settle(self, claim: Claim[ValueT], value: ValueT, size: int) -> None:
        """The owner's answer. `size`: bytes of the value."""
        with self._lock:
            self._in_flight.pop(claim.key, None)
            self._keep(claim, size + ENTRY_OVERHEAD)
        claim.future.set_result(value)

    def give_up(self, claim: Claim[ValueT], error: BaseException) -> None:
        """The owner failed: nothing is kept, and those who wait learn it. Harmless after `settle`."""
        if claim.owns and not claim.future.done():
            with self._lock:
                self._in_flight.pop(claim.key, None)
            claim.future.set_exception(error)

    @property
    def bytes(self) -> int:
        return self._bytes

    def _find(self, key: Hashable) -> Future[ValueT] | None:
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept[0]
        return self._in_flight.get(key)

    def _keep(self, claim: Claim[ValueT], size: int) -> None:
        if size > self._max_bytes:
            return
        self._kept[claim.key] = (claim.future, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
