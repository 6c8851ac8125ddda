"""The table of routes joins the faces. A new face is a folder and a line in FACES."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import falcon

from siglip_edge.server.faces.llamacpp.face import llamacpp
from siglip_edge.server.faces.native.face import native
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.face import openai
from siglip_edge.server.faces.route import Face, Route
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.similarity.face import similarity
from siglip_edge.server.http import bodies
from siglip_edge.server.http.errors import Renderer
from siglip_edge.server.http.router import Endpoint, Responder

FACES: Mapping[str, Callable[[Service], Face]] = {
    "openai": openai,
    "native": native,
    "llamacpp": llamacpp,
    "similarity": similarity,
}
"""The setting FACES chooses among these. The operations (health, metrics, documentation) are always served."""

Claim = tuple[Face, Route]

_LAST = re.compile(r"{(\w+)}$")
"""A field at the end of a path. It takes the rest of the path, with slashes: a model may be called google/x."""


def claims(faces: Iterable[Face]) -> dict[tuple[str, str], list[Claim]]:
    """(path, method) -> the routes that claim it, with their faces; a route without `takes` is the last."""
    found: defaultdict[tuple[str, str], list[Claim]] = defaultdict(list)
    for face in faces:
        for route in face.routes:
            found[route.path, route.method].append((face, route))
    return {place: sorted(there, key=lambda claim: claim[1].takes is None) for place, there in found.items()}


def endpoints(faces: Iterable[Face], max_body_bytes: int) -> dict[str, Endpoint]:
    """Path -> the endpoint that Falcon registers."""
    responders: defaultdict[str, dict[str, Responder]] = defaultdict(dict)
    speaks = {}
    for (path, method), there in claims(faces).items():
        face, route = there[-1]
        responders[path][method] = route.responder if len(there) == 1 else _by_body(there, max_body_bytes)
        speaks[path] = face.name
    return {_LAST.sub(r"{\1:path}", path): Endpoint(speaks[path], methods) for path, methods in responders.items()}


def open_paths(faces: Iterable[Face]) -> list[str]:
    """Paths that are answered without a key."""
    return [route.path for face in faces for route in face.routes if route.is_open]


def renderer_of(faces: Iterable[Face]) -> Callable[[str], Renderer]:
    """Name of a face -> its error renderer; OpenAI's where no face answers."""
    renderers = {face.name: face.render_error for face in faces}
    return lambda name: renderers.get(name, render_error)


def _by_body(there: Sequence[Claim], max_body_bytes: int) -> Responder:
    """For a path that several faces share: the keys of the body decide between them."""

    def respond(req: falcon.Request, resp: falcon.Response, **fields: Any) -> None:
        keys = bodies.peek_keys(req, max_body_bytes)
        face, route = next(((face, route) for face, route in there if route.takes and route.takes(keys)), there[-1])
        req.context.request.face = face.name
        route.responder(req, resp, **fields)

    return respond
