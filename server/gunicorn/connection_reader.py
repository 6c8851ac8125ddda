"""What comes on a connection, and until when."""

from __future__ import annotations

import io
import math
import time

from gunicorn.http.unreader import SocketUnreader

_COPIED = 1 << 13
"""Bytes: for fewer, gunicorn's own way of reading is as quick."""


class ConnectionReader(SocketUnreader):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's reader of one connection, with a deadline, and without its three copies of a long body."""

    buf: io.BytesIO
    """What has come and nobody has read."""

    deadline = math.inf
    """Of time.monotonic(). After it, reading raises TimeoutError: a time limit for each receive alone would let a peer
    keep its thread that sends a byte now and then."""

    def chunk(self, size_hint: int | None = None) -> bytes:
        self._limit_wait()
        return super().chunk(size_hint)  # type: ignore[no-any-return]

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes | bytearray:
        """As gunicorn's: `size` bytes, fewer where the connection ends; None: what there is."""
        if size is None or size - len(self.buf.getbuffer()) < _COPIED:
            return super().read(size, read_ahead)  # type: ignore[no-any-return]
        return self._received(size)

    def _received(self, size: int) -> bytearray:
        """What is buffered and what follows it, each byte received where it stays."""
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
        """Have the next receive end in time. A shorter limit that the connection has stays."""
        if self.deadline == math.inf:
            return
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        limit = self.sock.gettimeout()
        self.sock.settimeout(left if limit is None else min(limit, left))
