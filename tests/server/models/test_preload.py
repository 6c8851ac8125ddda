"""PRELOAD: the models that are loaded at the start."""

from __future__ import annotations

import falcon.testing

from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.server.conftest import wait_until
from tests.tiny_model import write_model


def app_of(told, **environ):
    settings = Settings.from_env({"PREPARE": "false", **environ})
    return falcon.testing.TestClient(create_app(settings, on_failure=told.append))


def statuses(client):
    return [model["status"] for model in client.simulate_get("/health").json["models"]]


def test_every_model_is_loaded_before_the_server_is_ready(tiny_dir):
    """As the predecessor did; no request is needed."""
    client = app_of([], MODELS=f"a={tiny_dir},b={tiny_dir},c={tiny_dir}")
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    assert statuses(client) == ["ready"] * 3


def test_others_can_wait_for_their_first_request(tiny_dir):
    """PRELOAD=default saves their memory until then."""
    client = app_of([], MODELS=f"a={tiny_dir},b={tiny_dir}", PRELOAD="default")
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    assert statuses(client) == ["ready", "not loaded"]
    assert client.simulate_post("/v1/embeddings", json={"input": "x", "model": "b"}).status_code == 200
    assert statuses(client) == ["ready", "ready"]


def test_a_model_that_cannot_be_loaded_fails_the_start(tiny_dir, tmp_path):
    """The failure is told with its sentence, and the server does not become ready."""
    broken = write_model(tmp_path / "broken")
    (broken / "vocabulary_int8.bin").write_bytes(b"short")
    told: list[str] = []
    client = app_of(told, MODELS=f"good={tiny_dir},broken={broken}")
    wait_until(lambda: bool(told))
    assert "run the export again" in told[0]
    answer = client.simulate_get("/health/ready")
    assert answer.status_code == 503
    assert "model broken could not be loaded" in answer.json["error"]["message"]
