"""A face is an API that is spoken here, and a route is one method of one path of it.

The same routes are registered in Falcon (`table.py`) and described in `/openapi.json` (`openapi.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from siglip_edge.server.http.errors import Renderer
from siglip_edge.server.http.router import Responder

JSON = "application/json"

_EMBEDDING_ERRORS = (400, 404, 408, 409, 413, 415, 429, 503, 504)
"""Statuses of a request that embeds, beside 200, 401 and 500."""

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mO8IyLCwMDAxMDAwMDAAAANIgEIUl86SgAAAABJRU5ErkJggg=="
)
"""Four pixels, for examples that work."""


@dataclass(frozen=True)
class Route:
    """Who answers one method of one path, and what the document says about it."""

    method: str
    path: str
    responder: Responder
    summary: str
    _: KW_ONLY
    request: Any = None
    """Type of the body. None: there is none."""
    is_form: bool = False
    """The body is a multipart form, not JSON."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Optional parameters of the query string, and what they mean."""
    answer: Any = str
    """Type of the answer."""
    media: str = JSON
    example: Mapping[str, Any] = field(default_factory=dict)
    """A body that gets status 200."""
    errors: tuple[int, ...] = ()
    """Statuses beside 200, 401 and 500."""
    is_open: bool = False
    """Answered without a key, as is everything below the path."""
    is_documented: bool = True
    takes: Callable[[Collection[str]], bool] | None = None
    """Where two faces share a path: whether a body with these keys is this one's. None: whatever no other takes."""


def embedding_route(
    path: str,
    responder: Responder,
    summary: str,
    request: Any,
    answer: Any,
    *,
    example: Mapping[str, Any],
    is_form: bool = False,
    takes: Callable[[Collection[str]], bool] | None = None,
) -> Route:
    """A POST that embeds something."""
    return Route(
        "POST",
        path,
        responder,
        summary,
        request=request,
        is_form=is_form,
        answer=answer,
        example=example,
        errors=_EMBEDDING_ERRORS,
        takes=takes,
    )


@dataclass(frozen=True, kw_only=True)
class Face:
    """One API: its routes, and the shape of its errors."""

    name: str
    summary: str
    routes: tuple[Route, ...]
    render_error: Renderer
    error: Any
    """Type of what `render_error` returns."""
