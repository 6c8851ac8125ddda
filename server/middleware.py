"""Around every request: its id, its clock, the headers of every answer, one line in the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import falcon

from server.call import Call, has_hung_up, request_id

access = logging.getLogger("siglip_edge.access")


class CallMiddleware:
    """Gives the request its `Call` and the answer its headers.

    `default_space`: the embedding space named on answers that concern no model in particular.
    `observe(method, route, status, seconds, timings)` is called once a request.
    """

    def __init__(
        self,
        timeout_s: float,
        default_space: str,
        observe: Callable[[str, str, int, Call], None] = lambda *facts: None,  # noqa: ARG005
    ) -> None:
        self._timeout_s = timeout_s
        self._default_space = default_space
        self._observe = observe

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        started = time.monotonic()
        call = Call(
            request_id=request_id(req.get_header("X-Request-ID")), started=started, deadline=started + self._timeout_s
        )
        if (connection := req.env.get("gunicorn.socket")) is not None:
            call.abandoned = lambda: has_hung_up(connection)
        req.context.call = call

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: Any,  # noqa: ARG002
        req_succeeded: bool,  # noqa: ARG002, FBT001
    ) -> None:
        call: Call = req.context.call
        resp.set_header("X-Request-ID", call.request_id)
        resp.set_header("X-Embedding-Space", call.space or self._default_space)
        resp.set_header("Server-Timing", call.server_timing())
        # The route's template, never the path: what callers send is not for logs.
        route, status = req.uri_template or "(no route)", resp.status_code
        self._observe(req.method, route, status, call)
        access.info(
            "%s %s %d %.1f ms id=%s",
            *(req.method, route, status, 1000 * call.elapsed, call.request_id),
            extra={"request_id": call.request_id, "method": req.method, "route": route, "status": status},
        )
