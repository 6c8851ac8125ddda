"""`/openapi.json` and `/docs` against the running app: every route, field and example."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import Any

import msgspec
import pytest
from falcon.inspect import inspect_app, inspect_compiled_router, register_router
from openapi_spec_validator import validate

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
        (method.method, route.path.replace(":path", ""))
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


def operations_of(document):
    return [operation for item in document["paths"].values() for operation in item.values()]


def schemas_in(node):
    """Every object of the document that is a schema, or has a part that is one."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [*([node] if isinstance(node, dict) else []), *(found for part in parts for found in schemas_in(part))]


@pytest.mark.parametrize(
    "environ",
    [{}, {"API_KEYS": "secret"}, {"FACES": "openai"}, {"FACES": "llamacpp", "ENABLE_METRICS": "false"}],
    ids=str,
)
def test_the_document_is_valid(client_of, environ):
    """By openapi-spec-validator, whatever is on."""
    validate(client_of(**environ).simulate_get("/openapi.json").json)


def test_the_version_is_the_packages(client):
    """The version of the document is that of the installed package."""
    assert client.simulate_get("/openapi.json").json["info"]["version"] == version("siglip-edge")


def test_every_route_has_a_name_and_a_tag(client):
    """Names make functions of a generated client: words, each there once, a verb first. Tags are explained."""
    document = client.simulate_get("/openapi.json").json
    names = [operation["operationId"] for operation in operations_of(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) for name in names)
    assert {"create_embeddings", "rank", "classify", "evaluate", "list_models", "get_health"} <= set(names)
    tags = [tag["name"] for tag in document["tags"]]
    native = ["ranking and classification", "evaluation"]
    assert tags == ["embeddings", "models", *native, "llama.cpp", "similarity service", "operations"]
    assert {tag for operation in operations_of(document) for tag in operation["tags"]} == set(tags)


def test_no_schema_has_a_default(client):
    """A default would fill the form of /docs with null, and make generated types ask for the field."""
    assert not [schema for schema in schemas_in(client.simulate_get("/openapi.json").json) if "default" in schema]


@pytest.mark.parametrize("route", FORMS, ids=name)
def test_a_form_has_file_choosers_and_no_null(client, route):
    """Files are binary strings, which Swagger UI shows as choosers; a form has examples; nobody types null or an object."""
    document = client.simulate_get("/openapi.json").json
    content = document["paths"][route.path]["post"]["requestBody"]["content"]["multipart/form-data"]
    form = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    file = form["properties"]["file"]
    assert file["description"]
    assert file.get("items", file).items() >= {"type": "string", "format": "binary"}.items()
    assert {name: form["properties"][name]["examples"] for name in route.example} == {
        name: [value] for name, value in route.example.items()
    }
    assert "null" not in {schema.get("type") for schema in schemas_in(form)}
    assert not [schema for schema in schemas_in(form) if "$ref" in schema]


def test_required_is_what_must_be_sent_and_what_is_always_answered(client):
    """A request may leave out its defaults; an answer has every field but those that its type may leave out."""
    schemas = client.simulate_get("/openapi.json").json["components"]["schemas"]
    assert schemas["RankRequest"]["required"] == ["query", "candidates"]
    assert "required" not in schemas["InputObject"]
    assert schemas["ErrorBody"]["required"] == ["message", "type", "param", "code"]
    assert schemas["Usage"]["required"] == ["prompt_tokens", "total_tokens"]
    assert schemas["Ranking"]["required"] == ["index", "candidate"]
    assert schemas["RankRequest"]["properties"]["return_scores"]["description"] == "When absent: `true`."


def test_requests_that_embed_document_their_headers(client):
    """The expected space and the request's id, both optional."""
    (rank,) = client.simulate_get("/openapi.json").json["paths"]["/v1/rank"].values()
    headers = {parameter["name"] for parameter in rank["parameters"] if parameter["in"] == "header"}
    assert headers == {"X-Embedding-Space", "X-Request-ID"}
    assert not [parameter for parameter in rank["parameters"] if parameter.get("required")]


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
    assert operation["tags"] == ["embeddings", "llama.cpp"]
    assert operation["operationId"] == "create_embeddings_without_v1"
    errors = operation["responses"]["400"]["content"]["application/json"]["schema"]["anyOf"]
    assert len(errors) == 2
    for example in body["examples"].values():
        assert client.simulate_post("/embeddings", json=example["value"]).status_code == 200


def test_every_reference_is_defined(client):
    """Each $ref of the document leads to a schema, and no schema is unused."""
    document = client.simulate_get("/openapi.json").text
    for kind in ("schemas", "headers"):
        used = set(re.findall(rf"#/components/{kind}/([\w.-]+)", document))
        assert used == set(json.loads(document)["components"][kind])


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
