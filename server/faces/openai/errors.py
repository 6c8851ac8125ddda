"""OpenAI's error body. The native routes, the operations, and paths that no face answers have the same."""

from __future__ import annotations

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.faces.openai.schemas import ErrorAnswer, ErrorBody, ErrorType
from siglip_edge.server.http.errors import Problem


def render_error(problem: Problem) -> ErrorAnswer:
    body = ErrorBody(message=problem.message, type=_type_of(problem.status), param=problem.param, code=problem.code)
    return ErrorAnswer(body)


def error_in_place(error: InvalidInput) -> ErrorBody:
    """An input's error as it stands inside an answer, for `on_error` and batches."""
    return ErrorBody(message=str(error), type="invalid_request_error", param=error.param, code=error.code)


def _type_of(status: int) -> ErrorType:
    if status in {401, 403}:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
