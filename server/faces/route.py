"""A face is an API that the server speaks. A route is a method of one of its paths.

`table.py` registers the routes in Falcon, `openapi.py` describes them in `/openapi.json`.
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
    "iVBORw0KGgoAAAANSUhEUgAAAAwAAAAMAQMAAABsu86kAAAABlBMVEX////dLkSqJfm4AAAALElEQVR42mNgYGCwPMDkpsD4/yMTAwMTAwMz"
    "gyYzgyEzgyADPwPz/78MDAwAa8kF2YterFEAAAAASUVORK5CYII="
)
"""A red heart of 12 × 12 pixels, for examples that work."""


EMBEDDING_HEADERS = {
    "X-Embedding-Space": "409 unless the model's space_id is this one.",
    "X-Request-ID": "Id of the request in answer and log; the server makes one when absent.",
}
"""Optional headers of a request that embeds."""


@dataclass(frozen=True)
class Tag:
    """A group of routes: a heading of the page `/docs`, a module of a generated client."""

    name: str
    summary: str


@dataclass(frozen=True)
class Route:
    """A method of a path: the responder, and the description in the document."""

    method: str
    path: str
    responder: Responder
    summary: str
    _: KW_ONLY
    name: str
    """Function of a generated client, as in `create_embeddings`: a verb first, each name once."""
    tag: Tag | None = None
    """None: the tag of the face."""
    request: Any = None
    """Type of the body. None: there is none."""
    is_form: bool = False
    """The body is a multipart form, not JSON."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Optional parameters of the query string: name -> meaning."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Optional headers of the request: name -> meaning."""
    answer: Any = str
    """Type of the answer."""
    media: str = JSON
    example: Mapping[str, Any] = field(default_factory=dict)
    """A body that gets status 200 from every model with both towers. In a form: its fields without the files."""
    errors: tuple[int, ...] = ()
    """Statuses beside 200, 401 and 500."""
    is_open: bool = False
    """Answered without a key, as is everything below the path."""
    is_documented: bool = True
    takes: Callable[[Collection[str]], bool] | None = None
    """Where two faces share a path: whether a body with these keys belongs to this route. None: every other body."""


def embedding_route(
    path: str,
    responder: Responder,
    summary: str,
    request: Any,
    answer: Any,
    *,
    name: str,
    example: Mapping[str, Any],
    tag: Tag | None = None,
    is_form: bool = False,
    takes: Callable[[Collection[str]], bool] | None = None,
) -> Route:
    """A POST that embeds its inputs."""
    return Route(
        "POST",
        path,
        responder,
        summary,
        name=name,
        tag=tag,
        request=request,
        headers=EMBEDDING_HEADERS,
        is_form=is_form,
        answer=answer,
        example=example,
        errors=_EMBEDDING_ERRORS,
        takes=takes,
    )


@dataclass(frozen=True, kw_only=True)
class Face:
    """An API: its routes, and the shape of its errors."""

    name: str
    """The word of the setting FACES, of logs and of metrics."""
    tag: Tag
    """The group of its routes in the documentation."""
    routes: tuple[Route, ...]
    render_error: Renderer
    error: Any
    """The type that `render_error` returns."""
