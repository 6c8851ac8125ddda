"""`/openapi.json` and `/docs` against the running app: every route, field and example."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import Any

import msgspec
import pytest
from falcon.inspect import inspect_app, inspect_compiled_router, register_router

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.faces import table
from siglip_edge.server.faces.operations.face import operations
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http.router import Router
from tests.server.conftest import form, png

register_router(Router)(inspect_compiled_router)

NOTHING: Any = None
"""A placeholder for parts that the table needs but these tests never call."""

SERVICE = Service(NOTHING, NOTHING, 0)
FACES = [
    *(make(SERVICE) for make in table.FACES.values()),
    operations(NOTHING, Settings.from_env({}), NOTHING, NOTHING, dict),
]
ROUTES = [route for face in FACES for route in face.routes if route.is_documented]
JSON = [route for route in ROUTES if route.request and not route.is_form]
FORMS = [route for route in ROUTES if route.is_form]


def name(route):
    return f"{route.method} {route.path}"


def call(client, route, example):
    if not route.is_form:
        return client.simulate_post(route.path, json=example)
    fields = [
        (key, value) for key, values in example.items() for value in (values if isinstance(values, list) else [values])
    ]
    return client.simulate_post(route.path, **form([*fields, ("file", ("dot.png", png()))]))


def wrong_field(answer):
    """The field that a 400 names: OpenAI's body has a place for it, llama.cpp's sentence begins with it."""
    error = answer.json["error"]
    return error["param"] if "param" in error else error["message"].lstrip('"')


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


def test_the_document_names_the_package_s_version_and_each_route_s_face(client):
    """The version is the installed package's; tags are the faces; identifiers are words, and each is there once."""
    document = client.simulate_get("/openapi.json").json
    assert document["info"]["version"] == version("siglip-edge")
    assert [tag["name"] for tag in document["tags"]] == [face.name for face in FACES]
    described = [operation for item in document["paths"].values() for operation in item.values()]
    assert document["paths"]["/embeddings"]["post"]["tags"] == ["llamacpp", "openai"]
    identifiers = [operation["operationId"] for operation in described]
    assert "post_v1_classify_image" in identifiers
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch(r"[a-z0-9_]+", identifier) for identifier in identifiers)


def test_locks_are_on_routes_that_ask_for_a_key_and_only_when_there_are_keys(client, client_of):
    """Without keys every route is open; with keys only the open routes answer without one."""
    assert "security" not in client.simulate_get("/openapi.json").text.casefold()
    locked = client_of(API_KEYS="secret")
    for path, item in locked.simulate_get("/openapi.json").json["paths"].items():
        for method, operation in item.items():
            status = locked.simulate_request(method.upper(), path.format(name="tiny")).status_code
            assert (operation.get("security"), "401" in operation["responses"]) == (
                ([{"key": []}], True) if status == 401 else (None, False)
            ), path


def test_a_path_of_two_faces_documents_both(client):
    """/embeddings takes OpenAI's body or llama.cpp's, and answers and errs accordingly."""
    operation = client.simulate_get("/openapi.json").json["paths"]["/embeddings"]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    names = {schema["$ref"].rpartition("/")[2] for schema in body["schema"]["anyOf"]}
    assert names == {"EmbeddingsRequest", "ContentRequest"}
    errors = operation["responses"]["400"]["content"]["application/json"]["schema"]["anyOf"]
    assert len(errors) == 2
    for example in body["examples"].values():
        assert client.simulate_post("/embeddings", json=example["value"]).status_code == 200


def test_every_reference_is_defined(client):
    """Each $ref of the document leads to a schema, and no schema is unused."""
    document = client.simulate_get("/openapi.json").text
    used = set(re.findall(r"#/components/schemas/(\w+)", document))
    assert used == set(json.loads(document)["components"]["schemas"])


@pytest.mark.parametrize("route", JSON + FORMS, ids=name)
def test_every_example_works_and_answers_as_documented(client, route):
    """The document's own example gets 200 and an answer of the documented type, and parses as the request's type."""
    answer = call(client, route, route.example)
    assert answer.status_code == 200, answer.text
    assert_is(answer.json, route.answer)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=name)
def test_every_get_answers_as_documented(client, route):
    """Status 200, the documented media type, and the documented type."""
    answer = client.simulate_get(route.path.format(name="tiny"))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(route.media)
    if route.answer not in {str, dict}:
        assert_is(answer.json, route.answer)


@pytest.mark.parametrize(
    ("route", "field"),
    [
        pytest.param(route, field.name, id=f"{route.path} {field.name}")
        for route in JSON
        for field in msgspec.structs.fields(route.request)
    ],
)
def test_every_documented_field_is_read(client, route, field):
    """Every documented field is read: an invalid value is a 400 that names the field."""
    answer = call(client, route, {**route.example, field: {"wrong": True}})
    assert answer.status_code == 400
    assert wrong_field(answer).startswith(field)


@pytest.mark.parametrize("route", [route for route in JSON if not route.takes], ids=name)
def test_every_required_field_is_required(client, route):
    """Leaving out a required field is a 400 that names it."""
    for field in msgspec.structs.fields(route.request):
        if field.required:
            rest = {key: value for key, value in route.example.items() if key != field.name}
            answer = call(client, route, rest)
            assert answer.status_code == 400
            assert wrong_field(answer).partition('"')[0] == field.name


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
