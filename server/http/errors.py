"""One table: what went wrong -> status and OpenAI's error type. Every failure of every route leaves through here."""

from __future__ import annotations

import logging
import math

import falcon

from siglip_edge.runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    SiglipEdgeError,
    SpaceMismatch,
    Unavailable,
)
from siglip_edge.server.faces.schemas import ErrorAnswer, ErrorBody
from siglip_edge.server.http import json

logger = logging.getLogger("siglip_edge")


class ModelNotFound(InvalidInput):
    code = "model_not_found"


_TABLE: tuple[tuple[type[Exception], int], ...] = (
    # The first line that fits counts.
    (ModelNotFound, 404),
    (SpaceMismatch, 409),
    (InvalidInput, 400),
    (Overloaded, 429),
    (DeadlineExceeded, 504),
    (Unavailable, 503),
)


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Route every exception of the app through this module."""
    app.add_error_handler(Exception, _render_unexpected)
    app.add_error_handler(SiglipEdgeError, _render_known)
    app.add_error_handler(falcon.HTTPError, _render_http)


def status_of(error: Exception) -> int:
    return next((status for kind, status in _TABLE if isinstance(error, kind)), 500)


def body_of(error: InvalidInput) -> ErrorBody:
    """An input's error as it stands in an answer, for `on_error` and batches."""
    return ErrorBody(message=str(error), type="invalid_request_error", param=error.param, code=error.code)


def _type_of(status: int) -> str:
    if status in {401, 403}:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _render_known(
    req: falcon.Request, resp: falcon.Response, error: SiglipEdgeError, params: dict[str, object]
) -> None:
    status = status_of(error)
    if status == 500:
        _render_unexpected(req, resp, error, params)
        return
    if isinstance(error, Unavailable) and not isinstance(error, DeadlineExceeded):
        resp.set_header("Retry-After", str(max(1, math.ceil(error.retry_after_s))))
    param = error.param if isinstance(error, InvalidInput) else None
    _render(resp, status, str(error), param=param, code=getattr(error, "code", None))


def _render_http(
    req: falcon.Request,
    resp: falcon.Response,
    error: falcon.HTTPError,
    params: dict[str, object],  # noqa: ARG001 - falcon's signature
) -> None:
    """Falcon's own 404, 405, 413, 415 in the same shape as ours."""
    resp.set_headers(error.headers or {})
    title = str(error.title or error.status)
    message = error.description or f"{title}: {req.method} on this path; /docs lists what there is"
    _render(resp, error.status_code, message, code=title.lower().replace(" ", "_"))


def _render_unexpected(
    req: falcon.Request,
    resp: falcon.Response,
    error: Exception,
    params: dict[str, object],  # noqa: ARG001 - falcon's signature
) -> None:
    """The cause goes to the log; the caller gets a fixed sentence and the id to find it by."""
    request_id = req.context.request.request_id
    logger.error("request %s failed", request_id, exc_info=error)
    _render(resp, 500, f"The server failed on this request; its log has the cause under request id {request_id}.")


def _render(
    resp: falcon.Response, status: int, message: str, *, param: str | None = None, code: str | None = None
) -> None:
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    body = ErrorBody(message=message, type=_type_of(status), param=param, code=code)  # type: ignore[arg-type]
    resp.data = json.render(ErrorAnswer(body))
