"""Reads a connection: every body within a deadline, and a long body without copies."""

from __future__ import annotations

import io
import math
import time

from gunicorn.http.unreader import SocketUnreader

_COPIED = 1 << 13
"""Bytes. If less of a body is missing, gunicorn's own way of reading is as fast."""


class ConnectionReader(SocketUnreader):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's reader of a connection, with a deadline, and without its copies of a long body.

    Without the copies, a request with a photograph takes less CPU time (docs/decisions/pruned.md).
    """

    buf: io.BytesIO
    """Bytes that have arrived but are not read yet."""

    deadline = math.inf
    """On the clock of time.monotonic(). After it, reading raises TimeoutError. A limit per receive would not do: a peer
    that sends single bytes could keep its thread."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        self._limit_wait()
        return super().chunk(size_hint)  # type: ignore[no-any-return]

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes | bytearray:
        """`size` bytes, or fewer where the connection ends. None: the bytes that have arrived."""
        if size is None or size - len(self.buf.getbuffer()) < _COPIED:
            return super().read(size, read_ahead)  # type: ignore[no-any-return]
        return self._received(size)

    def _received(self, size: int) -> bytearray:
        """The buffered bytes and the following ones, received straight into the result."""
        received = bytearray(size)
        self.buf.seek(0)
        count = self.buf.readinto(received)
        self.buf = io.BytesIO()
        with memoryview(received) as rest:
            while count < size:
                self._limit_wait()
                if not (came := self.sock.recv_into(rest[count:])):
                    break
                count += came
        del received[count:]
        return received

    def _limit_wait(self) -> None:
        """Let the next receive end before the deadline. A shorter limit of the connection stays."""
        if self.deadline == math.inf:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        limit = self.sock.gettimeout()
        self.sock.settimeout(left if limit is None else min(limit, left))
