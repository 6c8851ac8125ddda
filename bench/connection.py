"""The kept connection of a client. Answers are parsed in C, because clients share the cores with the server."""

from __future__ import annotations

import select
import socket
from types import TracebackType
from typing import Self

import httptools

from siglip_edge.bench.servers import PATH, ServerFailed

_TIMEOUT_S = 300.0
_READ_AT_ONCE = 1 << 16
_HEAD = (
    b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)


class Answer:
    """One response, as httptools reports it."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_whole = True


class Connection:
    """Opens with the first request, and again after the server has closed it."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def post(self, body: bytes) -> tuple[int, Answer]:
        """-> status and answer. Raises OSError, and ServerFailed when the connection ends before the answer does."""
        if self._socket is not None and _is_readable(self._socket):
            self.close()  # the server closed it after a refusal, because it does not read large bodies that it refuses
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=_TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_HEAD % len(body) + body)
        answer = Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_whole:
            came = self._socket.recv(_READ_AT_ONCE)
            if not came:
                raise ServerFailed("the connection was closed before its answer was whole")
            parser.feed_data(came)
        if answer.headers.get(b"connection", b"").lower() == b"close":
            self.close()
        return parser.get_status_code(), answer


def _is_readable(connection: socket.socket) -> bool:
    watcher = select.poll()
    watcher.register(connection, select.POLLIN)
    return bool(watcher.poll(0))
