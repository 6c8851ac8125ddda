"""The shipped model behind a real server: its answers on this machine, within the rounding of an instruction set.

`make test-arm64` runs this file on emulated processors. Integer products are the same bits everywhere; float products
round elsewhere, and INT8 rounds their results coarsely, so scores differ in the third digit.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.server.conftest import ROOT, Server, data_uri, wait_until

PIZZA = data_uri((ROOT / "demo/heldout/noto-v1--pizza.png").read_bytes())
LABELS = ["airplane", "camera", "dog face", "guitar", "hamburger", "octopus", "pizza", "rocket", "umbrella"]
START_S = 400
"""An emulated processor tests the model for minutes before the server is ready."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Server]:
    """Ready with what `doctor` has kept in CACHE_DIR, if anything."""
    running = Server(tmp_path_factory.mktemp("server") / "log.txt", MODEL=str(model_dir), PREPARE="true")
    try:
        wait_until(running.is_ready, START_S)
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def get(server: Server, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_preferred_plan_is_right_on_this_processor(server):
    """The self-test refused nothing: kernels, golden rows and every batch size agree."""
    (model,) = get(server, "/health")["models"]
    assert (model["status"], model["refused"]) == ("ready", [])


def test_text_and_image_lie_in_one_space(server):
    """Vectors of unit length; the picture's is near its name in two languages, and far from another name."""
    data = get(server, "/v1/embeddings", {"input": [PIZZA, "pizza", "una pizza", "rocket"]})["data"]
    vectors = np.array([item["embedding"] for item in data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    english, spanish, other = vectors[1:] @ vectors[0]
    assert english == pytest.approx(0.453, abs=0.01)
    assert spanish > 0.3 > other


def test_a_picture_is_named(server):
    """The calibrated score of the right label; a cosine that moves by 0.001 moves it by 0.005."""
    first, second, *_ = get(server, "/v1/classify", {"image": PIZZA, "labels": LABELS})["classifications"]
    assert (first["label"], second["label"]) == ("pizza", "hamburger")
    assert first["score"] == pytest.approx(0.666, abs=0.03)
    assert first["score"] > 20 * second["score"]


def test_candidates_are_ranked(server):
    """Texts by a picture, and the picture by a text."""
    candidates = ["rocket", "una pizza", "octopus", PIZZA]
    (by_picture, by_text) = get(server, "/v1/rank", {"query": [PIZZA, "pizza"], "candidates": candidates})["results"]
    assert [ranking["index"] for ranking in by_picture["rankings"][:2]] == [3, 1]
    assert {ranking["index"] for ranking in by_text["rankings"][:2]} == {1, 3}


def test_a_stop_is_clean(server):
    """The last test of the file: SIGTERM, status 0, no process that crashed on its way out."""
    assert server.stop() == 0
    log = server.log.read_text()
    assert log.endswith("Stopped\n")
    assert "ERROR" not in log
    assert "WARNING" not in log
