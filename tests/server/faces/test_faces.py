"""The table of routes: which APIs are served, and who answers where two share a path."""

from __future__ import annotations

import pytest

from siglip_edge.server.config.settings import FACES, Settings
from siglip_edge.server.config.variables import SettingsInvalid
from siglip_edge.server.faces import table


def test_the_setting_knows_the_faces_of_the_table():
    """FACES allows what the table has, in its order, and all of it is on by default."""
    assert tuple(table.FACES) == FACES == Settings.from_env({}).faces


def test_an_unknown_face_stops_the_start():
    """One sentence with what is allowed."""
    with pytest.raises(SettingsInvalid, match=r"FACES='openai,grpc' cannot be read; allowed: some of openai, native"):
        Settings.from_env({"FACES": "openai,grpc"})


def test_a_face_that_is_off_has_no_route(client_of):
    """Its paths are 404 in OpenAI's shape, its operations leave the document; health and documentation stay."""
    client = client_of(FACES="openai")
    for path in ("/v1/rank", "/embedding", "/rerank"):
        answer = client.simulate_post(path, json={})
        assert (answer.status_code, answer.json["error"]["type"]) == (404, "invalid_request_error")
    assert client.simulate_get("/health").status_code == client.simulate_get("/docs").status_code == 200
    document = client.simulate_get("/openapi.json").json
    assert [tag["name"] for tag in document["tags"]] == ["embeddings", "models", "operations"]
    assert "RankRequest" not in document["components"]["schemas"]


def test_a_shared_path_is_the_others_when_one_is_off(client_of):
    """/embeddings without llama.cpp's API is OpenAI's whatever the body has; without OpenAI's it is llama.cpp's."""
    content = {"content": "a cat"}
    answer = client_of(FACES="openai,native").simulate_post("/embeddings", json=content)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input")
    client = client_of(FACES="llamacpp")
    assert client.simulate_post("/embeddings", json=content).json[0]["index"] == 0
    refused = client.simulate_post("/embeddings", json={"input": "a cat"})
    assert refused.json["error"] == {
        "code": 400,
        "message": '"content" must be provided',
        "type": "invalid_request_error",
    }
    assert client.simulate_post("/v1/embeddings", json={"input": "a cat"}).status_code == 404


def test_what_lies_beside_an_open_path_is_not_open(client_of):
    """/health and /docs are answered without a key, with everything below; a path that only begins alike is not."""
    client = client_of(API_KEYS="first")
    for path in (
        "/",
        "/health",
        "/health/live",
        "/docs",
        "/docs/start.js",
        "/docs/assets/swagger-ui.css",
        "/openapi.json",
    ):
        assert client.simulate_get(path).status_code == 200, path
    for path in ("/healthy", "/v1/models", "//v1/models", "///v1/models"):  # beside "/", which is open
        assert client.simulate_get(path).status_code == 401, path
