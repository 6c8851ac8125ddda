"""Around every request: its id, its clock, the headers of every answer, one line in the access log."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import falcon

from siglip_edge.runtime.errors import DeadlineExceeded, Overloaded
from siglip_edge.server.batching.retry_after import retry_after
from siglip_edge.server.http.request_context import NO_FACE, RequestContext, has_hung_up, request_id
from siglip_edge.server.http.worker_facts import ARRIVED, HAS_PLACE

HEADERS = {
    "X-Request-ID": "Id of the request: from the caller, or new.",
    "X-Embedding-Space": "The space_id of the model that answered; vectors of equal spaces are comparable.",
    "Server-Timing": "Milliseconds by stage.",
}
"""Headers of every answer of the app, with their meanings for `/openapi.json`. `process_response` sets them."""

EXPOSED_HEADERS = ", ".join([*HEADERS, "Retry-After"])
"""Headers that a browser lets a script read."""

_EVENTS = dict.fromkeys(("/v1/embeddings", "/embeddings", "/v1/embeddings/image"), "embedding_request")
"""Route -> the event of its access line in JSON; Simple Inference Server's word."""

access = logging.getLogger("siglip_edge.access")


class RequestContextMiddleware:
    """Gives the request its `RequestContext` and the answer its headers.

    `face_of`: path -> the name of its face; None where no route matches.
    `default_space`: the embedding space named on answers that concern no model in particular.
    `observe(method, route, status, context)` is called once per request.
    """

    def __init__(
        self,
        timeout_s: float,
        default_space: str,
        face_of: Callable[[str], str | None] = lambda path: None,  # noqa: ARG005
        observe: Callable[[str, str, int, RequestContext], None] = lambda *facts: None,  # noqa: ARG005
    ) -> None:
        self._timeout_s = timeout_s
        self._default_space = default_space
        self._face_of = face_of
        self._observe = observe

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        started = req.env.get(ARRIVED) or time.monotonic()
        context = RequestContext(
            request_id=request_id(req.get_header("X-Request-ID")),
            started=started,
            deadline=started + self._timeout_s,
            face=self._face_of(req.path) or NO_FACE,
        )
        if (connection := req.env.get("gunicorn.socket")) is not None:
            context.abandoned = lambda: has_hung_up(connection)
            connection.settimeout(self._timeout_s)  # a caller that stops sending must not keep its thread
        req.context.request = context

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: Any,  # noqa: ARG002
        req_succeeded: bool,  # noqa: ARG002, FBT001
    ) -> None:
        context: RequestContext = req.context.request
        resp.set_header("X-Request-ID", context.request_id)
        resp.set_header("X-Embedding-Space", context.space or self._default_space)
        resp.set_header("Server-Timing", context.server_timing())
        # The route's template, not the path, and no invented method: logs hold nothing that callers send, and metrics
        # keep every name in memory.
        method = req.method if req.method in falcon.COMBINED_METHODS else "(unknown)"
        route, status = req.uri_template or "(no route)", resp.status_code
        self._observe(method, route, status, context)
        access.info(
            "%s %s %d %.1f ms id=%s",
            *(method, route, status, 1000 * context.elapsed, context.request_id),
            extra={
                "event": _EVENTS.get(route, "request"),
                "request_id": context.request_id,
                "method": method,
                "route": route,
                "status": status,
            },
        )


class AdmissionMiddleware:
    """Admits at most `limit` POST requests at the same time and answers others with 429: probes always find a thread.

    A worker that keeps requests waiting decides instead, by HAS_PLACE. `backlog_s`: estimated seconds of work in the
    lanes.
    """

    def __init__(self, limit: int, backlog_s: Callable[[], float]) -> None:
        self._places = threading.BoundedSemaphore(limit)
        self._backlog_s = backlog_s

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        if req.method != "POST":
            return
        if time.monotonic() > req.context.request.deadline:
            raise DeadlineExceeded("the request ran out of time while it waited for its turn")
        has_place = req.env.get(HAS_PLACE)
        if has_place is None:
            has_place = req.context.admitted = self._places.acquire(blocking=False)
        if not has_place:
            raise Overloaded(
                "the server holds as many requests as it can", retry_after_s=retry_after(self._backlog_s())
            )

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,  # noqa: ARG002
        resource: Any,  # noqa: ARG002
        req_succeeded: bool,  # noqa: ARG002, FBT001
    ) -> None:
        if getattr(req.context, "admitted", False):
            self._places.release()


class KeyMiddleware:
    """Asks for one of the keys as `Authorization: Bearer …` on every path but the open ones and those below them."""

    def __init__(self, keys: Iterable[str], open_paths: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]
        self._open_paths = frozenset(open_paths)
        # Nothing lies below "/": Falcon ignores more slashes in front of a path, so "//x" is any path.
        self._open_folders = tuple(f"{path}/" for path in self._open_paths - {"/"})

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        if req.method == "OPTIONS" or self._is_open(req.path):  # a browser's preflight has no key
            return
        scheme, _, key = (req.auth or "").partition(" ")
        # All keys are compared, each in constant time: how long it takes tells nothing about any of them.
        matches = [hmac.compare_digest(_digest(key.strip()), digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise falcon.HTTPUnauthorized(
                title="Invalid API key",
                description="Send one of the server's keys as Authorization: Bearer <key>.",
                challenges=["Bearer"],
            )

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path.startswith(self._open_folders)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
