"""`/openapi.json`, generated from the table of routes and the types that parse requests and render answers."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from siglip_edge.server.faces.openapi_schemas import Object, Schemas, schemas
from siglip_edge.server.faces.route import JSON, Face, Route, Tag
from siglip_edge.server.faces.table import Claim, claims
from siglip_edge.server.http.middleware import HEADERS

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

_REPEATED = {"style": "form", "explode": True}
"""Encoding of a list in a form: a part per item. Swagger UI would join the items with commas."""

_RETRY_AFTER = "Retry-After"

_HEADERS = {
    name: {"description": meaning, "schema": {"type": "string"}}
    for name, meaning in {**HEADERS, _RETRY_AFTER: "Whole seconds."}.items()
}
"""Headers of answers."""


def document(faces: Sequence[Face], *, model: str, has_keys: bool) -> Object:
    """The OpenAPI 3.1 document. `model`: name of a served model, for examples. `has_keys`: whether keys are set."""
    described = {
        place: documented
        for place, there in claims(faces).items()
        if (documented := [(face, route) for face, route in there if route.is_documented])
    }
    claimed = [claim for there in described.values() for claim in there]
    found = schemas([route for _, route in claimed], [face.error for face, _ in claimed])
    writer = _Writer(found, model, has_keys)
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
        "tags": [{"name": tag.name, "description": tag.summary} for tag in _tags(faces)],
        "paths": paths,
        "components": {"schemas": found.components, "headers": _HEADERS, **locks},
    }


def _tags(faces: Iterable[Face]) -> Iterable[Tag]:
    """Each tag once, in the order of the routes."""
    return dict.fromkeys(_tag(face, route) for face in faces for route in face.routes if route.is_documented)


def _tag(face: Face, route: Route) -> Tag:
    return route.tag or face.tag


@dataclass(frozen=True)
class _Writer:
    schemas: Schemas
    model: str
    has_keys: bool

    def operation(self, there: Sequence[Claim]) -> Object:
        """A method of a path. Where faces share it: any of their bodies, answers and errors."""
        there = there[::-1]  # first the route that takes every other body
        routes = [route for _, route in there]
        described: Object = {
            "tags": [_tag(*claim).name for claim in there],
            "summary": routes[0].summary,
            "operationId": routes[0].name,
            "responses": self._responses(there),
        }
        if others := [f"- {_tag(*claim).name}: {claim[1].summary}" for claim in there[1:]]:
            described["description"] = "\n".join(["Other APIs share the path:", "", *others])
        if routes[0].request is not None:
            described["requestBody"] = {"required": True, "content": self._bodies(there)}
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

    def _bodies(self, there: Sequence[Claim]) -> Object:
        """One example, or one for each face that shares the path."""
        (_, route), *others = there
        body: Object = {"schema": self._any_of(route.request for _, route in there)}
        if route.is_form:  # its examples are in the schema
            return {_FORM: body | {"encoding": dict.fromkeys(self.schemas.repeated(route.request), _REPEATED)}}
        if others:
            return {JSON: body | {"examples": {_tag(*claim).name: {"value": claim[1].example} for claim in there}}}
        return {JSON: body | {"example": route.example}}

    def _parameters(self, route: Route) -> list[Object]:
        named = [_parameter(name, "path", "", self.model) for name in re.findall(r"{(\w+)}", route.path)]
        asked = [_parameter(name, "query", meaning, self.model) for name, meaning in route.query.items()]
        return [*named, *asked, *(_parameter(name, "header", meaning) for name, meaning in route.headers.items())]

    def _any_of(self, kinds: Iterable[Any]) -> Object:
        schemas = [self.schemas.of[kind] for kind in dict.fromkeys(kinds)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _parameter(name: str, place: str, meaning: str, example: str | None = None) -> Object:
    parameter: Object = {"name": name, "in": place, "schema": {"type": "string"}}
    if meaning:
        parameter["description"] = meaning
    if place == "path":
        parameter["required"] = True
    return parameter if example is None else {**parameter, "example": example}


def _answer(status: int, media: str, schema: Object) -> Object:
    names = [*HEADERS, _RETRY_AFTER] if status in {429, 503} else HEADERS
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {"description": _MEANING[status], "headers": headers, "content": {media: {"schema": schema}}}
