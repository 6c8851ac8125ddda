"""`/openapi.json` and `/docs` against the running app: every route, field and example."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from falcon.inspect import inspect_app, inspect_compiled_router, register_router

from siglip_edge.server.faces.openapi import OPERATIONS
from siglip_edge.server.http.router import Router
from tests.server.conftest import form, png

register_router(Router)(inspect_compiled_router)

JSON = [operation for operation in OPERATIONS if operation.request and not operation.is_form]
FORMS = [operation for operation in OPERATIONS if operation.is_form]


def name(operation):
    return operation.path


def call(client, operation, example):
    if not operation.is_form:
        return client.simulate_post(operation.path, json=example)
    fields = [
        (key, value) for key, values in example.items() for value in (values if isinstance(values, list) else [values])
    ]
    return client.simulate_post(operation.path, **form([*fields, ("file", ("dot.png", png()))]))


def assert_is(answer, kind):
    """`answer` holds what the type declares and nothing else."""
    encoded = json.loads(msgspec.json.encode(msgspec.convert(answer, kind)))
    assert encoded == answer


def test_every_route_is_documented_and_every_documented_route_exists(client):
    """The document's methods and paths are the app's, but for the page's own files, and HEAD, which goes with GET."""
    served = {
        (method.method, route.path)
        for route in inspect_app(client.app).routes
        for method in route.methods
        if not method.internal and method.method != "HEAD" and route.path != "/docs/start.js"
    }
    documented = {
        (method.upper(), path)
        for path, item in client.simulate_get("/openapi.json").json["paths"].items()
        for method in item
    }
    assert documented == served


def test_a_route_that_is_off_is_not_documented(client_of):
    """Without metrics the document has no /metrics."""
    assert "/metrics" not in client_of(ENABLE_METRICS="false").simulate_get("/openapi.json").json["paths"]


def test_every_reference_is_defined(client):
    """Each $ref of the document leads to a schema, and no schema is unused."""
    document = client.simulate_get("/openapi.json").text
    used = set(re.findall(r"#/components/schemas/(\w+)", document))
    assert used == set(json.loads(document)["components"]["schemas"])


@pytest.mark.parametrize("operation", JSON + FORMS, ids=name)
def test_every_example_works_and_answers_as_documented(client, operation):
    """The document's own example gets 200 and an answer of the documented type, and parses as the request's type."""
    answer = call(client, operation, operation.example)
    assert answer.status_code == 200, answer.text
    assert_is(answer.json, operation.answer)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.method == "GET"], ids=name)
def test_every_get_answers_as_documented(client, operation):
    """Status 200, the documented media type, and the documented type."""
    answer = client.simulate_get(operation.path.format(name="tiny"))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(operation.media)
    if operation.answer not in {None, dict}:
        assert_is(answer.json, operation.answer)


@pytest.mark.parametrize(
    ("operation", "field"),
    [(operation, field.name) for operation in JSON for field in msgspec.structs.fields(operation.request)],
    ids=str,
)
def test_every_documented_field_is_read(client, operation, field):
    """A documented field with a value of no sense is a 400 that names it: none is decoration."""
    answer = call(client, operation, {**operation.example, field: {"wrong": True}})
    assert answer.status_code == 400
    assert answer.json["error"]["param"].startswith(field)


@pytest.mark.parametrize("operation", JSON, ids=name)
def test_every_required_field_is_required(client, operation):
    """Leaving out a required field is a 400 that names it."""
    for field in msgspec.structs.fields(operation.request):
        if field.required:
            rest = {key: value for key, value in operation.example.items() if key != field.name}
            answer = call(client, operation, rest)
            assert (answer.status_code, answer.json["error"]["param"]) == (400, field.name)


def test_the_page_is_whole_without_the_internet(client):
    """Every file the page names is served from here, and the policy forbids any other host."""
    page = client.simulate_get("/docs")
    links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert client.simulate_get(link).status_code == 200, link
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert client.simulate_get("/docs/assets/%2e%2e/__init__.py").status_code == 404
