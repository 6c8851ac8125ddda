"""Answers to requests that never reach the app because they are no HTTP: in the shape of the app's errors.

No sentence repeats the bytes of the caller.
"""

from __future__ import annotations

import json
import logging
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

from gunicorn.http import errors as http
from gunicorn.util import write_nonblock

logger = logging.getLogger("siglip_edge")

_TLS_HANDSHAKE = 0x16
"""First byte of a client that speaks TLS."""


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str


TLS = Refusal(
    400, "This port speaks plain HTTP and the client began with TLS: ask http://, or put a proxy with TLS in front."
)
NO_HTTP = Refusal(400, "The request is not valid HTTP.")
FAILED = Refusal(500, "The server failed on this request; its log has the cause.")

_OURS = (http.InvalidResponseHeader, http.InvalidResponseHeaderName)
"""Errors of the app's answer, although gunicorn derives them from the errors of a request."""

_OF_ERROR: tuple[tuple[type[Exception], Refusal], ...] = (
    # The first line that fits counts.
    (http.LimitRequestLine, Refusal(414, "The request line is too long.")),
    (http.LimitRequestHeaders, Refusal(431, "There are too many headers, or one of them is too long.")),
    (http.ExpectationFailed, Refusal(417, "The header Expect may only be 100-continue.")),
    (http.UnsupportedTransferCoding, Refusal(501, "The only Transfer-Encoding that is supported is chunked.")),
    (http.InvalidRequestLine, Refusal(400, "The request line is not valid HTTP.")),
    (http.InvalidRequestMethod, Refusal(400, "The method of the request line is not valid HTTP.")),
    (http.InvalidHTTPVersion, Refusal(400, "The HTTP version is not supported; send HTTP/1.1.")),
    (http.ObsoleteFolding, Refusal(400, "A header continues on a second line, which HTTP no longer allows.")),
    (http.InvalidHeader, Refusal(400, "A header is not valid HTTP.")),
    (http.InvalidHeaderName, Refusal(400, "The name of a header is not valid HTTP.")),
    (http.ForbiddenProxyRequest, Refusal(403, "This peer may not send the PROXY protocol.")),
    (http.ConfigurationProblem, Refusal(500, "The server's configuration does not allow this request.")),
    (http.ParseException, NO_HTTP),
)


def of_error(error: Exception) -> Refusal | None:
    """-> the answer to a request that gunicorn cannot read. None: the error is the server's, not the caller's."""
    if isinstance(error, _OURS):
        return None
    return next((refusal for kind, refusal in _OF_ERROR if isinstance(error, kind)), None)


def of_start(head: bytes) -> Refusal | None:
    """-> the answer to a connection that begins with bytes that begin no request. None: it may become one.

    Such a peer waits for bytes of its own protocol and never ends a head; without an answer it waits for its timeout.
    """
    first = head[0]
    if first == _TLS_HANDSHAKE:
        return TLS
    return NO_HTTP if not 0x20 < first < 0x7F and first not in b"\r\n" else None


def send(connection: socket.socket, refusal: Refusal) -> None:
    """Log the refusal and answer with it, unless the peer is gone."""
    request_id = uuid.uuid4().hex
    logger.warning("A request was refused because it is not valid HTTP: %s id=%s", refusal.message, request_id)
    with suppress(OSError):
        write_nonblock(connection, _answer(refusal, request_id))


def _answer(refusal: Refusal, request_id: str) -> bytes:
    from siglip_edge.server.http.errors import code_of  # noqa: PLC0415 - the parent of the workers never needs falcon

    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    error = {"message": refusal.message, "type": kind, "param": None, "code": code_of(refusal.status)}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n\r\n"
    )
    return head.encode() + body
