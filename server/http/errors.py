"""One table from error class to status. Every failure of every route becomes an answer here, in its face's shape."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import falcon

from siglip_edge.runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    SiglipEdgeError,
    SpaceMismatch,
    Unavailable,
)
from siglip_edge.server.http import json

logger = logging.getLogger("siglip_edge")


class ModelNotFound(InvalidInput):
    code = "model_not_found"


_STATUS: tuple[tuple[type[Exception], int], ...] = (
    # The first line that fits counts.
    (ModelNotFound, 404),
    (SpaceMismatch, 409),
    (InvalidInput, 400),
    (Overloaded, 429),
    (DeadlineExceeded, 504),
    (Unavailable, 503),
)

_CODES = {
    401: "invalid_api_key",
    408: "request_timeout",
    413: "payload_too_large",
    414: "uri_too_long",
    431: "headers_too_large",
    500: "internal_error",
}
"""Status -> its code; the phrase of the HTTP standard for the others: 404 is `not_found`."""


@dataclass(frozen=True)
class Problem:
    """A failure, before a face gives it its vendor's shape."""

    status: int
    message: str
    param: str | None = None
    """The field that is wrong, as in `input[3]`."""
    code: str | None = None
    """A stable word for programs."""
    retry_after: int | None = None
    """Whole seconds."""


Renderer = Callable[[Problem], Any]
"""A face's: the problem -> the typed body of its answer."""


def install(app: falcon.App[falcon.Request, falcon.Response], renderer_of: Callable[[str], Renderer]) -> None:
    """Route every exception of the app through this module. `renderer_of`: by the name of the face that was asked."""
    handlers = _Handlers(renderer_of)
    app.add_error_handler(Exception, handlers.unexpected)
    app.add_error_handler(SiglipEdgeError, handlers.known)
    app.add_error_handler(falcon.HTTPError, handlers.http)


def status_of(error: Exception) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def code_of(status: int) -> str:
    """The code of a failure that has no code of its own: `not_found`, `method_not_allowed`."""
    return _CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")


def problem_of(error: SiglipEdgeError) -> Problem:
    """An error with a line in the table."""
    retry_after = None
    if isinstance(error, Unavailable) and not isinstance(error, DeadlineExceeded):
        retry_after = max(1, math.ceil(error.retry_after_s))
    return Problem(
        status=status_of(error),
        message=str(error),
        param=error.param if isinstance(error, InvalidInput) else None,
        code=getattr(error, "code", None),
        retry_after=retry_after,
    )


def apply(resp: falcon.Response, problem: Problem) -> None:
    """The status and the headers of a failure."""
    resp.status = problem.status
    if problem.retry_after is not None:
        resp.set_header("Retry-After", str(problem.retry_after))


@dataclass(frozen=True)
class _Handlers:
    """Falcon's error handlers."""

    renderer_of: Callable[[str], Renderer]

    def known(
        self, req: falcon.Request, resp: falcon.Response, error: SiglipEdgeError, params: dict[str, object]
    ) -> None:
        if status_of(error) == 500:
            self.unexpected(req, resp, error, params)
        else:
            self._render(req, resp, problem_of(error))

    def http(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        error: falcon.HTTPError,
        params: dict[str, object],  # noqa: ARG002 - falcon's signature
    ) -> None:
        """Falcon's own 404, 405, 413, 415 in the same shape as ours."""
        resp.set_headers(error.headers or {})
        message = error.description or f"{error.status}: {req.method} on this path; /docs lists what there is"
        self._render(req, resp, Problem(error.status_code, message, code=code_of(error.status_code)))

    def unexpected(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        error: Exception,
        params: dict[str, object],  # noqa: ARG002 - falcon's signature
    ) -> None:
        """The cause goes to the log; the caller gets a fixed sentence and the id to find it by."""
        request_id = req.context.request.request_id
        logger.error("request %s failed", request_id, exc_info=error)
        message = f"The server failed on this request; its log has the cause under request id {request_id}."
        self._render(req, resp, Problem(500, message, code=code_of(500)))

    def _render(self, req: falcon.Request, resp: falcon.Response, problem: Problem) -> None:
        apply(resp, problem)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = json.render(self.renderer_of(req.context.request.face)(problem))
