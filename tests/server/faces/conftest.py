"""Two models in one server."""

from __future__ import annotations

import falcon.testing
import pytest

from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.server.conftest import wait_until
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Models `fast` and `accurate`, loaded by the app itself."""
    root = tmp_path_factory.mktemp("two")
    write_model(root / "a", name="a", space_id="space-a")
    write_model(root / "b", name="b", space_id="space-b", seed=1)
    settings = Settings.from_env(
        {"MODELS": f"fast={root / 'a'},accurate={root / 'b'}", "EMBEDDING_CACHE_SIZE": "0", "PREPARE": "false"}
    )
    client = falcon.testing.TestClient(create_app(settings))
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    return client
