"""`/openapi.json`, generated from the table of routes and the types that parse requests and render answers."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from siglip_edge.server.faces.route import JSON, Face, Route
from siglip_edge.server.faces.table import Claim, claims
from siglip_edge.server.http.middleware import HEADERS
from siglip_edge.server.inputs.schemas import Upload

_REF = "#/components/schemas/{name}"
_FORM = "multipart/form-data"

_MEANING = {
    200: "The answer.",
    400: "The input is wrong; the error names the field.",
    401: "No valid API key.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    409: "The model's embedding space is not the expected one.",
    413: "The body is too large.",
    415: "Not the media type of this route.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "A failure of the server; its log has the cause under the request id.",
    503: "Loading, draining or stalled; `Retry-After` says when to come back.",
    504: "The request's time was up.",
}

Object = dict[str, Any]


def document(faces: Sequence[Face], *, model: str, has_keys: bool) -> Object:
    """The OpenAPI 3.1 document. `model`: name of a served model, for examples. `has_keys`: whether keys are set."""
    described = {
        place: documented
        for place, there in claims(faces).items()
        if (documented := [(face, route) for face, route in there if route.is_documented])
    }
    schemas, components = _schemas(described.values())
    writer = _Writer(schemas, model, has_keys)
    paths: dict[str, Object] = {}
    for (path, method), there in described.items():
        paths.setdefault(path, {})[method.lower()] = writer.operation(there)
    locks = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if has_keys else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "siglip-edge",
            "version": importlib.metadata.version("siglip-edge"),
            "description": "Images and texts in, vectors of one shared space out.",
        },
        "tags": [{"name": face.name, "description": face.summary} for face in faces],
        "paths": paths,
        "components": {"schemas": components, **locks},
    }


def _schemas(described: Iterable[Sequence[Claim]]) -> tuple[Mapping[Any, Object], Object]:
    """-> type -> its reference; name -> its schema."""
    kinds = {
        kind: None
        for there in described
        for face, route in there
        for kind in (route.request, route.answer, face.error)
        if kind is not None
    }
    references, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    if Upload.__name__ in components:
        components[Upload.__name__] = {"type": "string", "format": "binary"}
    return dict(zip(kinds, references, strict=True)), dict(sorted(components.items()))


@dataclass(frozen=True)
class _Writer:
    schemas: Mapping[Any, Object]
    model: str
    has_keys: bool

    def operation(self, there: Sequence[Claim]) -> Object:
        """A method of a path. Where faces share it: any of their bodies, answers and errors."""
        routes = [route for _, route in there]
        described: Object = {
            "tags": [face.name for face, _ in there],
            "summary": " Or: ".join(route.summary for route in reversed(routes)),
            "operationId": _identifier(routes[0]),
            "responses": self._responses(there),
        }
        if routes[0].request is not None:
            described["requestBody"] = {"required": True, "content": self._bodies(routes)}
        if parameters := self._parameters(routes[0]):
            described["parameters"] = parameters
        if self._asks_for_key(routes[0]):
            described["security"] = [{"key": []}]
        return described

    def _asks_for_key(self, route: Route) -> bool:
        return self.has_keys and not route.is_open

    def _responses(self, there: Sequence[Claim]) -> Object:
        routes = [route for _, route in there]
        answer = self._any_of(route.answer for route in routes)
        error = self._any_of(face.error for face, _ in there)
        statuses = {500, *(status for route in routes for status in route.errors)}
        if self._asks_for_key(routes[0]):
            statuses.add(401)
        errors = {str(status): _answer(status, JSON, error) for status in sorted(statuses)}
        return {"200": _answer(200, routes[0].media, answer), **errors}

    def _bodies(self, routes: Sequence[Route]) -> Object:
        body: Object = {"schema": self._any_of(route.request for route in routes)}
        examples = [dict(route.example) for route in routes if route.example]
        if len(examples) == 1:
            body["example"] = examples[0]
        elif examples:
            body["examples"] = {f"body {number}": {"value": value} for number, value in enumerate(examples, 1)}
        return {_FORM if routes[0].is_form else JSON: body}

    def _parameters(self, route: Route) -> list[Object]:
        named: list[Object] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": self.model}
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        return named + [
            {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}, "example": self.model}
            for name, meaning in route.query.items()
        ]

    def _any_of(self, kinds: Iterable[Any]) -> Object:
        schemas = [self.schemas[kind] for kind in dict.fromkeys(kinds)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _identifier(route: Route) -> str:
    """`POST /v1/classify/image` -> post_v1_classify_image."""
    return "_".join([route.method.lower(), *re.findall(r"\w+", route.path)])


def _answer(status: int, media: str, schema: Object) -> Object:
    names = {**HEADERS, "Retry-After": "Whole seconds."} if status in {429, 503} else HEADERS
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}
    return {"description": _MEANING[status], "headers": headers, "content": {media: {"schema": schema}}}
