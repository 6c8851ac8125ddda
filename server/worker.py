"""gunicorn's threaded worker, whose one loop, which accepts and dispatches for everyone, never waits for a peer."""

from __future__ import annotations

import socket
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

LINGER_S = 2.0
"""As gunicorn's own: how long a peer may take to read its answer and close."""

_AT_ONCE = 1 << 16
"""Bytes discarded each time round the loop."""


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Both differences are for rude peers, and for slow ones.

    A connection gets a thread when it has sent something: silent ones would take all threads for five seconds. And
    when its answer is its last, the loop reads what still comes in between its other work, until the peer closes:
    to close with bytes unread resets the connection, which can destroy the answer on its way (RFC 9112, 9.6). gunicorn
    waits for that inside the loop, up to two seconds a connection, and meanwhile nobody else is served.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lingering: deque[TConn] = deque()

    def enqueue_req(self, conn: TConn) -> None:
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.set_timeout()
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        if fs.cancelled() or (fs.exception() is None and not fs.result()):
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = 0.0  # nothing was asked on it; a worker that stops would wait a minute for it
        super().murder_pending()
        while self._lingering and self._lingering[0].timeout <= time.monotonic():
            self._end(self._lingering[0])

    def _linger(self, conn: TConn) -> None:
        self._lingering.append(conn)
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.settimeout(0)
            conn.timeout = time.monotonic() + LINGER_S
            self.poller.register(conn.sock, EVENT_READ, partial(self._discard, conn))
        except OSError:  # the peer is gone
            self._end(conn)

    def _discard(self, conn: TConn, sock: socket.socket) -> None:
        try:
            has_ended = not sock.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            has_ended = True
        if has_ended:
            self._end(conn)

    def _end(self, conn: TConn) -> None:
        self._lingering.remove(conn)
        with suppress(OSError, KeyError, ValueError):  # never registered
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
