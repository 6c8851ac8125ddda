"""llama.cpp's error body: the status again, a sentence, a type."""

from __future__ import annotations

import re

from siglip_edge.server.faces.llamacpp.schemas import LlamaCppError, LlamaCppErrorBody
from siglip_edge.server.http.errors import Problem

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",  # OpenAI's word: llama.cpp's server never refuses work for its amount
    501: "not_supported_error",
    503: "unavailable_error",
    504: "unavailable_error",
}


_MISSING = re.compile(r"Object missing required field `(\w+)`")


def render_error(problem: Problem) -> LlamaCppError:
    return LlamaCppError(LlamaCppErrorBody(problem.status, _sentence(problem), _type_of(problem.status)))


def _sentence(problem: Problem) -> str:
    """The body has no place for the name of the field, so the sentence begins with it."""
    missing = _MISSING.fullmatch(problem.message)
    message = f'"{missing[1]}" must be provided' if missing else problem.message
    is_named = (
        problem.param is None
        or message.startswith(f"{problem.param}: ")
        or (missing is not None and missing[1] == problem.param)
    )
    return message if is_named else f"{problem.param}: {message}"


def _type_of(status: int) -> str:
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
