"""A gunicorn thread worker that slow clients cannot block."""

from __future__ import annotations

import atexit
import math
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from os import SEEK_END
from selectors import EVENT_READ
from typing import Any

from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn, ThreadWorker

from siglip_edge.server.gunicorn import refusals
from siglip_edge.server.gunicorn.connection_reader import ConnectionReader
from siglip_edge.server.gunicorn.waiting_line import WaitingLine
from siglip_edge.server.http.worker_facts import ARRIVED, HAS_PLACE, WAITING

HEAD_BYTES = 1 << 16
"""Largest request line and headers together; Node's server takes 16 KiB, nginx 32."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

LINGER_S = 2.0
"""How long a peer may take to read its last answer and close; gunicorn's own value."""

_UNREAD_BODY_S = 0.01
"""How long a thread discards a body that the application did not read: enough for a body that came with its head. After
that the connection ends, and the loop discards the rest."""

_TOO_LARGE = refusals.Refusal(431, f"A request's line and headers have at most {HEAD_BYTES} bytes.")

_HEAD_ENDS = b"\r\n\r\n"

_WITHOUT_PLACE = (b"GET ", b"HEAD ", b"OPTIONS ")
"""Start of a request that computes nothing."""

_MOMENT_S = 0.005
"""How long a thread waits for the connection's next request after an answer. A client in a closed loop is faster."""

_READ_AT_ONCE = 1 << 13
_DISCARD_AT_ONCE = 1 << 16
"""Bytes per turn of the loop. The body behind a head is read by the thread."""


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """A gunicorn thread worker that slow clients cannot block.

    - A connection gets a thread when the head of its request is whole. Otherwise a few silent connections would take
      every thread.
    - A thread keeps its connection only for a next request that comes at once.
    - A request that embeds needs one of `line`'s places, which leave threads for probes, and waits in the loop for it.
    - A thread spends no time on a body that the application did not read; gunicorn's spends seconds.
    - After the last answer of a connection, the loop discards late bytes in between its other work until the peer
      closes. Closing with unread bytes would reset the connection, which can destroy the answer on its way (RFC 9112,
      9.6); gunicorn waits for the peer inside the loop, up to two seconds per connection.

    Connections in TLS or HTTP/2, which gunicorn's settings allow, keep gunicorn's way.
    """

    wsgi: Any
    """The app."""

    request_timeout_s = math.inf
    """How long the body of a request may take to arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.line: WaitingLine[TConn] = WaitingLine()
        self._answering = threading.local()
        """The connection of this thread."""
        self._lingering: deque[TConn] = deque()
        self._is_plain = not self.cfg.is_ssl and self.cfg.http2_cleartext == "off"

    def init_signals(self) -> None:
        """From here on this worker's own handlers answer the signals that `Arbiter.spawn_worker` holds back."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def run(self) -> None:
        """Serve until a stop. The process then ends without tearing down the interpreter, which aborts it where a
        thread still loads a model.
        """
        super().run()
        atexit.register(os._exit, 0)

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """Called at SIGINT and SIGQUIT: end at once.

        gunicorn raises SystemExit wherever the main thread is. An extension module that is being imported makes an
        ImportError of it, which gunicorn reads as a worker that cannot start; and ending the interpreter beside
        threads that run a model aborts the process.
        """
        self.alive = False
        self.cfg.worker_int(self)
        os._exit(0)

    def load_wsgi(self) -> None:
        """Let the app know about each request what only the worker knows."""
        super().load_wsgi()
        app = self.wsgi

        def with_facts(environ: dict[str, Any], start_response: Any) -> Any:
            conn = self._answering.conn
            environ[ARRIVED], environ[HAS_PLACE], environ[WAITING] = conn.arrived, conn.has_place, len(self.line)
            return app(environ, start_response)

        if self._is_plain:
            self.wsgi = with_facts

    def enqueue_req(self, conn: TConn) -> None:
        """Called by gunicorn for a connection that is new, readable again, or has sent more than its last request."""
        if not self._is_plain:
            super().enqueue_req(conn)
            return
        if not conn.parser:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = ConnectionReader(conn.sock)
        conn.sock.settimeout(0)
        if step := self._next_step(conn):
            step(conn)
        else:
            conn.set_timeout()
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self._more_came, conn))

    def handle(self, conn: TConn) -> object:
        """Answer a request, and each next one that follows at once.

        Each saves the way through the loop to another thread, a tenth of the CPU time of a small model's text.
        """
        again = super().handle(conn)
        while again is True and self._follows(conn):
            again = super().handle(conn)
        return again

    def handle_request(self, req: Any, conn: TConn) -> object:
        req.unreader.deadline = time.monotonic() + self.request_timeout_s
        self._answering.conn = conn
        return super().handle_request(req, conn)

    def _follows(self, conn: TConn) -> bool:
        """Whether the next head is whole within a moment; never while another request waits for a thread."""
        if not self._is_plain or not self.alive or not conn.has_place or self.line:
            return False
        if self.tpool._work_queue.qsize():  # noqa: SLF001 - no other way to know
            return False
        conn.sock.settimeout(_MOMENT_S)
        conn.arrived = time.monotonic()
        return self._next_step(conn) == self._give_thread  # the loop takes every other step

    def _more_came(self, conn: TConn, sock: socket.socket) -> None:
        if step := self._next_step(conn):
            self.poller.unregister(sock)
            self.pending_conns.remove(conn)
            step(conn)

    def _next_step(self, conn: TConn) -> Callable[[TConn], None] | None:
        """Read the part of a head that has arrived. None: the head is not whole yet."""
        head = conn.parser.unreader.buf
        if _HEAD_ENDS not in head.getvalue():
            try:
                came = conn.sock.recv(_READ_AT_ONCE)
            except (BlockingIOError, TimeoutError):
                return None
            except OSError:
                return self._drop
            if not came:
                return self._drop
            head.seek(0, SEEK_END)
            head.write(came)
        if refusal := refusals.of_start(head.getvalue()):
            return partial(self._refuse, refusal)
        if _HEAD_ENDS in head.getvalue():
            return self._give_thread
        return partial(self._refuse, _TOO_LARGE) if head.tell() > HEAD_BYTES else None

    def _give_thread(self, conn: TConn) -> None:
        conn.data_ready = True  # nothing to wait for
        conn.arrived = time.monotonic()
        if conn.parser.unreader.buf.getvalue().lstrip(b"\r\n").startswith(_WITHOUT_PLACE):
            self._start(conn, has_place=False)
        elif self.line.take_place():
            self._start(conn, has_place=True)
        elif not self.line.wait(conn, conn.arrived + self.request_timeout_s):
            self._start(conn, has_place=False)  # the app refuses it, in the words of its face

    def _start(self, conn: TConn, *, has_place: bool) -> None:
        conn.has_place = has_place
        super().enqueue_req(conn)

    def _refuse(self, refusal: refusals.Refusal, conn: TConn) -> None:
        refusals.send(conn.sock, refusal)
        self._linger(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:  # noqa: ARG002 - gunicorn's signature
        """Called by gunicorn for a request that it cannot read, and for an error outside of the app."""
        refusal = refusals.of_error(exc)
        if refusal is None:
            self.log.error("Error handling request", exc_info=exc)
        refusals.send(client, refusal or refusals.FAILED)

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        if getattr(conn, "has_place", False):
            conn.has_place = False
            if following := self.line.give_place():
                self._start(following, has_place=True)
        if fs.cancelled() or (fs.exception() is None and not fs.result()):
            self._linger(conn)
        else:
            super().finish_request(conn, fs)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:  # noqa: FBT001 - gunicorn's signature
        """Whether the connection can be used again. gunicorn waits five seconds for an unread body."""
        return keepalive and bool(conn.parser.finish_body(deadline=time.monotonic() + _UNREAD_BODY_S))

    def murder_pending(self) -> None:
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = 0.0  # it has no whole request; a stopping worker would wait a minute for it
        super().murder_pending()
        for conn in self.line.expired(time.monotonic()):
            self._start(conn, has_place=False)  # the app says that its time is up
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
            has_ended = not sock.recv(_DISCARD_AT_ONCE)
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
        self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()
