"""The names by which a request finds a model."""

from __future__ import annotations

import falcon.testing
import msgspec
import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest
from tests.server.conftest import loading_app, wait_until
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """-> two model directories, of which the first was exported from a hub."""
    folder = tmp_path_factory.mktemp("models")
    base, small = write_model(folder / "base", space_id="a"), write_model(folder / "small", space_id="b", seed=1)
    for directory, source in ((base, "google/siglip2-base-patch16-256"), (small, "checkpoint")):
        msgspec.structs.replace(Manifest.load(directory), source=source).save(directory)
    return base, small


def client_of(**environ):
    return falcon.testing.TestClient(loading_app([], **environ))


def answered(client, name):
    """-> status, and the model that answered."""
    answer = client.simulate_post("/v1/embeddings", json={"input": "x", "model": name})
    return answer.status_code, answer.json.get("model")


@pytest.fixture(scope="module")
def client(exported):
    base, small = exported
    return client_of(
        MODELS=f"fast={base},vendor/accurate={small}", ALIASES="text-embedding-3-small=fast,clip=vendor/accurate"
    )


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("fast", "fast"),
        ("text-embedding-3-small", "fast"),
        ("google/siglip2-base-patch16-256", "fast"),
        ("siglip2-base-patch16-256", "fast"),
        ("vendor/accurate", "vendor/accurate"),
        ("clip", "vendor/accurate"),
        ("checkpoint", "vendor/accurate"),
    ],
)
def test_a_model_answers_to_its_names(client, name, model):
    """Its own, those of ALIASES, its checkpoint's hub id or folder; the answer has its own name."""
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    assert answered(client, name) == (200, model)
    assert client.simulate_get(f"/v1/models/{name}").json["id"] == model


@pytest.mark.parametrize("name", ["accurate", "vendor", "google/siglip2", "text-embedding-3-large", "base"])
def test_any_other_name_is_404(client, name):
    """A model that is not served never answers, also for a part of a name."""
    assert answered(client, name)[0] == 404
    assert client.simulate_get(f"/v1/models/{name}").status_code == 404


def test_the_list_of_models_has_the_aliases(client):
    """Beside OpenAI's fields."""
    cards = client.simulate_get("/v1/models").json["data"]
    assert {card["id"]: card["aliases"] for card in cards} == {
        "fast": ["text-embedding-3-small", "google/siglip2-base-patch16-256", "siglip2-base-patch16-256"],
        "vendor/accurate": ["clip", "checkpoint"],
    }


def test_a_hub_id_in_the_settings_is_a_name_of_its_directory(exported):
    """MODEL=google/small finds MODELS_DIR/small, whatever its manifest says."""
    client = client_of(MODEL="google/small", MODELS_DIR=str(exported[1].parent))
    assert answered(client, "google/small") == (200, "small")


def test_the_first_of_two_models_has_a_common_alias(exported):
    """Two directories of one checkpoint, for example in two precisions."""
    base, _ = exported
    client = client_of(MODELS=f"a={base},b={base}")
    assert answered(client, "google/siglip2-base-patch16-256") == (200, "a")
    assert [card["aliases"] for card in client.simulate_get("/v1/models").json["data"]][1] == []


def test_a_folders_name_that_two_checkpoints_had_leads_to_neither(exported, tmp_path):
    """Unlike a hub id, it may stand for different weights."""
    other = write_model(tmp_path / "other", space_id="c", seed=2)
    msgspec.structs.replace(Manifest.load(other), source="checkpoint").save(other)
    client = client_of(MODELS=f"a={exported[1]},b={other}")
    assert answered(client, "checkpoint")[0] == 404
    assert [card["aliases"] for card in client.simulate_get("/v1/models").json["data"]] == [[], []]
