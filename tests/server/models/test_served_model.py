"""A served model describes itself, loaded or not."""

import falcon.testing
import pytest

from tests.server.conftest import loading_app


@pytest.mark.parametrize(
    ("towers", "modalities"), [("text", ["text"]), ("vision", ["image"]), ("both", ["text", "image"])]
)
def test_a_model_lists_the_modalities_of_its_served_towers(tiny_dir, towers, modalities):
    """Both APIs follow TOWERS for a loaded model and for a model that loads with its first request."""
    app = loading_app([], MODELS=f"loaded={tiny_dir},lazy={tiny_dir}", TOWERS=towers)
    client = falcon.testing.TestClient(app)
    cards = client.simulate_get("/v1/models").json["data"]
    assert {card["id"]: card["modalities"] for card in cards} == {"loaded": modalities, "lazy": modalities}
    for name in ("loaded", "lazy"):
        props = client.simulate_get("/props", query_string=f"model={name}").json
        assert props["modalities"]["vision"] is ("image" in modalities)
