"""Facts of every route: one shape of errors, limits, probes, models."""

from __future__ import annotations

import pytest

from siglip_edge.server.http.middleware import HEADERS
from tests.server.conftest import data_uri, png


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
        ("GET", "/v1/embeddings", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("POST", "/v1/embeddings", 400, "invalid_json"),
    ],
)
def test_every_error_has_openais_shape(client, method, path, status, code):
    """The 404 and 405 of Falcon have the same body as our errors, and a code that is a word."""
    answer = client.simulate_request(method, path)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/embeddings", 400),
    ],
)
def test_every_answer_has_the_documented_headers(client, method, path, status):
    """The list that `/openapi.json` and browsers get is the list of headers that an answer has."""
    answer = client.simulate_request(method, path)
    assert answer.status_code == status
    assert all(answer.headers[name] for name in HEADERS)


def test_405_names_the_allowed_methods(client):
    """A 405 keeps the header Allow."""
    assert "POST" in client.simulate_get("/v1/embeddings").headers["Allow"]


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/v1/models", "/metrics", "/docs"])
def test_head_is_get_without_the_body(client, path):
    """HEAD gets the status and headers of GET; a route without GET refuses HEAD."""
    get, head = client.simulate_get(path), client.simulate_head(path)
    assert (head.status_code, head.headers["Content-Type"]) == (get.status_code, get.headers["Content-Type"])
    assert get.content
    assert not head.content
    assert client.simulate_head("/v1/embeddings").status_code == 405


def test_other_media_types_are_415(client):
    """A body with another media type than JSON is refused, and so is a compressed body."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.simulate_post("/v1/embeddings", body="input=a", headers=form)
    assert (answer.status_code, answer.json["error"]["code"]) == (415, "unsupported_media_type")
    zipped = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.simulate_post("/v1/embeddings", body="{}", headers=zipped)
    assert (answer.status_code, answer.json["error"]["type"]) == (415, "invalid_request_error")


def test_a_body_beyond_the_limit_is_413(client_of):
    """MAX_BODY_BYTES is checked before the body is read."""
    answer = client_of(MAX_BODY_BYTES="100").simulate_post("/v1/embeddings", json={"input": "a" * 100})
    assert (answer.status_code, answer.json["error"]["type"]) == (413, "invalid_request_error")
    assert answer.json["error"]["code"] == "payload_too_large"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"input": "\\ud800"}', b"[" * 100_000, b"[1]", b"nul"])
def test_broken_json_is_400(client, body):
    """Every malformed body gets a 400."""
    answer = client.simulate_post("/v1/embeddings", body=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json["error"]["type"]) == (400, "invalid_request_error")


def test_image_limits_hold_before_decoding(client_of):
    """Too many bytes or pixels: 400 with code image_too_large, from the header alone."""
    client = client_of(MAX_IMAGE_PIXELS="100", MAX_IMAGE_BYTES="2000")
    for image in (png(size=(11, 10)), png() + b"\0" * 3000):
        answer = client.simulate_post("/v1/embeddings", json={"input": data_uri(image)})
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "image_too_large")


def test_models_are_listed_with_what_they_give(client):
    """OpenAI's list of models, with dimensions, modalities, precision and space of each."""
    listed = client.simulate_get("/v1/models").json
    assert listed["object"] == "list"
    (card,) = listed["data"]
    assert card["id"] == "tiny"
    assert card["object"] == "model"
    assert card["dimensions"] == 12
    assert card["modalities"] == ["text", "image"]
    assert card["precision"] == "int8"
    assert card["space_id"] == "tiny-space"
    assert client.simulate_get("/v1/models/tiny").json == card


def test_health_tells_the_plan_and_measured_rates(client):
    """The rate appears after the first run; the field names of the predecessors are present."""
    before = client.simulate_get("/health").json
    assert {lane["rows_per_second"] for lane in before["models"][0]["lanes"]} == {None}
    client.simulate_post("/v1/embeddings", json={"input": "a cat"})
    after = client.simulate_get("/health").json
    rates = {lane["tower"]: lane["rows_per_second"] for lane in after["models"][0]["lanes"]}
    assert rates["text"] > 0
    assert rates["vision"] is None
    kept = {
        "queue_size",
        "max_queue_size",
        "active_workers",
        "total_workers",
        "batch_size",
        "batch_wait_time_ms",
        "cpu_count",
    }
    assert kept <= set(after)
    assert after["models"][0]["plan"] == "a fake"


def test_probes(client):
    """The probes live and ready answer 200 when the model is loaded."""
    assert client.simulate_get("/health/live").status_code == 200
    assert client.simulate_get("/health/ready").status_code == 200
