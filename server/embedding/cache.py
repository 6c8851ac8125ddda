"""A cache of embeddings, keyed by content: the least recently used entries leave first.

An input that is requested again while its embedding is being computed waits for that computation.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

ENTRY_OVERHEAD = 512
"""Bytes per kept entry besides its vector: key, links, the object of the value. Rounded up from tracemalloc's 483."""


@dataclass(frozen=True)
class Claim(Generic[ValueT]):
    """A request's hold on a value, which is kept already or still being computed."""

    key: Hashable
    owns: bool
    """Whether this request computes the value. It must then call `settle` or `give_up`; other requests wait for it."""
    _source: Future[ValueT] | ValueT

    def result(self, timeout: float) -> ValueT:
        """The value. Waits up to `timeout` seconds for its owner; raises TimeoutError, or the error of the owner."""
        return self._source.result(timeout) if isinstance(self._source, Future) else self._source


class EmbeddingCache(Generic[ValueT]):
    """Thread-safe.

    `max_bytes`, `max_entries`: both hold; None: no limit. 0 keeps nothing, but identical inputs that are in flight
    together are still computed once.
    `count(hit)`: called once per lookup.
    """

    def __init__(
        self,
        max_bytes: int | None,
        max_entries: int | None = None,
        *,
        count: Callable[[bool], None] = lambda hit: None,  # noqa: ARG005
    ) -> None:
        self._max_bytes = math.inf if max_bytes is None else max_bytes
        self._max_entries = math.inf if max_entries is None else max_entries
        self._count = count
        self._lock = threading.Lock()
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[ValueT, int]] = OrderedDict()
        self._in_flight: dict[Hashable, Future[ValueT]] = {}

    def claim(self, key: Hashable) -> Claim[ValueT]:
        """Look up a key. Hit: the value is kept, or another request computes it. Miss: the caller owns the claim."""
        with self._lock:
            claim = self._find(key)
            if claim is None:
                claim = Claim(key, owns=True, _source=self._in_flight.setdefault(key, Future()))
        self._count(not claim.owns)
        return claim

    def settle(self, claim: Claim[ValueT], value: ValueT, size: int) -> None:
        """Give the value of an owned claim to every waiting request, and keep it. `size`: bytes of the value."""
        with self._lock:
            future = self._in_flight.pop(claim.key)
            self._keep(claim.key, value, size + ENTRY_OVERHEAD)
        future.set_result(value)

    def give_up(self, claim: Claim[ValueT], error: BaseException) -> None:
        """Give the error of an owned claim to every waiting request. Does nothing after `settle`, or without owning."""
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
        if size > self._max_bytes or not self._max_entries:
            return
        self._kept[key] = (value, size)
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._kept) > self._max_entries:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped
