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
"""Bytes a kept entry costs beyond its vector: key, links, the value's own object. tracemalloc says 483."""


@dataclass(frozen=True)
class Claim(Generic[ValueT]):
    """A kept value, or the future of one: who `owns` it must `settle` or `give_up`, everybody else waits."""

    key: Hashable
    owns: bool
    _source: Future[ValueT] | ValueT

    def result(self, timeout: float) -> ValueT:
        """The value; waits for its owner up to `timeout` seconds. Raises TimeoutError or what the owner met."""
        return self._source.result(timeout) if isinstance(self._source, Future) else self._source


class EmbeddingCache(Generic[ValueT]):
    """Thread-safe. `max_bytes` 0 keeps nothing, and still computes identical inputs in flight once."""

    def __init__(self, max_bytes: int, count: Callable[[bool], None] = lambda hit: None) -> None:  # noqa: ARG005
        self._max_bytes = max_bytes
        self._count = count
        self._lock = threading.Lock()
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[ValueT, int]] = OrderedDict()
        self._in_flight: dict[Hashable, Future[ValueT]] = {}

    def claim(self, key: Hashable) -> Claim[ValueT]:
        """A hit is kept or somebody else's to compute; a miss is the caller's."""
        with self._lock:
            claim = self._find(key)
            if claim is None:
                claim = Claim(key, owns=True, _source=self._in_flight.setdefault(key, Future()))
        self._count(not claim.owns)
        return claim

    def settle(self, claim: Claim[ValueT], value: ValueT, size: int) -> None:
        """The owner's answer. `size`: bytes of the value."""
        with self._lock:
            future = self._in_flight.pop(claim.key)
            self._keep(claim.key, value, size + ENTRY_OVERHEAD)
        future.set_result(value)

    def give_up(self, claim: Claim[ValueT], error: BaseException) -> None:
        """The owner failed: nothing is kept, and those who wait learn it. Harmless for others, and after `settle`."""
        if not claim.owns:
            return
        with self._lock:
            future = self._in_flight.get(claim.key)
            if future is None or future is not claim._source:  # noqa: SLF001 - settled already
                return
            del self._in_flight[claim.key]
        future.set_exception(error)

    @property
    def bytes(self) -> int:
        return self._bytes

    def _find(self, key: Hashable) -> Claim[ValueT] | None:
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return Claim(key, owns=False, _source=kept[0])
        future = self._in_flight.get(key)
        return None if future is None else Claim(key, owns=False, _source=future)

    def _keep(self, key: Hashable, value: ValueT, size: int) -> None:
        if size > self._max_bytes:
            return
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
