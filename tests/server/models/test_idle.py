"""Memory that is not needed is not used: TOWERS, IDLE_UNLOAD_S, and prepared models behind a real server."""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.request
from typing import cast

import falcon.testing
import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.execution.plan import CPU, BatchLimit, Wishes, plan
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.app import create_app
from siglip_edge.server.batching.batcher import MicroBatcher
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.models.idle import IdleWatch, watch_for_unloading
from tests.server.conftest import Server, data_uri, png, wait_until
from tests.tiny_model import write_model

PICTURE = data_uri(png())


def app_of(directory, **environ) -> falcon.testing.TestClient:
    """The app over a model directory, ready."""
    settings = Settings.from_env({"MODEL": str(directory), "PREPARE": "false", **environ})
    client = falcon.testing.TestClient(create_app(settings))
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    return client


def ask(client, given) -> falcon.testing.Result:
    return client.simulate_post("/v1/embeddings", json={"input": given})


@pytest.mark.parametrize(("served", "good", "bad"), [("text", "a text", PICTURE), ("vision", PICTURE, "a text")])
def test_one_tower_serves_and_the_others_inputs_are_refused(tmp_path, served, good, bad):
    """Artifacts of the other tower may be missing; its inputs get a 400 that names their place."""
    directory = write_model(tmp_path / "tiny")
    other = "vision" if served == "text" else "text"
    (directory / f"{other}_int8.onnx").unlink()
    client = app_of(directory, TOWERS=served)
    assert ask(client, good).status_code == 200
    answer = ask(client, [good, bad])
    assert answer.status_code == 400
    assert answer.json["error"]["param"] == "input[1]"
    own, kind = ("texts", "images") if served == "text" else ("images", "texts")
    assert answer.json["error"]["message"] == (
        f"model tiny embeds {own} only here (TOWERS), no {kind}; no model of this server does"
    )
    lanes = client.simulate_get("/health").json["models"][0]["lanes"]
    assert [lane["tower"] for lane in lanes] == [served]


def test_token_ids_are_refused_without_a_text_tower(tiny_dir):
    answer = ask(app_of(tiny_dir, TOWERS="vision", ACCEPT_TOKEN_IDS="true"), [[5, 6, 1]])
    assert answer.status_code == 400


@pytest.fixture
def model(tiny_dir) -> EmbeddingModel:
    manifest = Manifest.load(tiny_dir)
    return EmbeddingModel.load(tiny_dir, plan([CPU], read_cpu_budget(), manifest, Wishes()))


@pytest.fixture
def lanes(model):
    def lane(tower: Tower) -> MicroBatcher:
        return MicroBatcher(lambda rows: list(model.run(tower, rows)), name=tower, limit=BatchLimit(rows=4), max_rows=8)

    lanes = {tower: lane(tower) for tower in Tower}
    yield lanes
    for one in lanes.values():
        one.close()


def test_an_idle_tower_is_unloaded_and_comes_back_when_asked(model, lanes):
    before = model.embed_texts(["a"])
    watch = watch_for_unloading(model, lanes, idle_s=0.05)
    watch.start()
    for _ in range(3):
        wait_until(lambda: model.loaded() == ())
        row = model.prepare_text("a").row
        (vector,) = lanes[Tower.TEXT].submit([row], deadline=time.monotonic() + 60).result()
        assert (vector == before[0]).all()
    watch.stop()


def test_a_tower_that_works_stays(model, lanes):
    """Only a tower that has been idle for long enough is unloaded."""
    watch_for_unloading(model, {**lanes, Tower.TEXT: lane_of(Busy())}, idle_s=0.0)._look()
    assert model.loaded() == (Tower.TEXT,)


def test_each_stretch_of_idleness_counts_once():
    """The watch acts once per idle stretch, and again after any work."""
    calls: list[Tower] = []
    lane = Lane()
    watch = IdleWatch(calls.append, {Tower.TEXT: lane_of(lane)}, idle_s=60)
    now, counts = time.monotonic(), []
    for lane.idle_since in (now, now - 70, now - 70, None, now - 1, now - 65):
        watch._look()
        counts.append(len(calls))
    assert counts == [0, 1, 1, 1, 1, 2]


class Lane:
    """The part of a lane that the watch reads."""

    idle_since: float | None = None


def lane_of(stand_in: object) -> MicroBatcher:
    """The watch reads `idle_since` only."""
    return cast("MicroBatcher", stand_in)


class Busy:
    """A lane with work."""

    idle_since = None


def test_a_resting_tower_answers_as_before(model):
    """Its weights stay; an unloaded one stays unloaded."""
    before = model.embed_texts(["a"])
    model.rest(Tower.TEXT)
    assert model.loaded() == tuple(Tower)
    assert (model.embed_texts(["a"]) == before).all()
    model.unload(Tower.TEXT)
    model.rest(Tower.TEXT)
    assert model.loaded() == (Tower.VISION,)


def test_the_server_rests_when_it_has_no_work(tiny_dir, monkeypatch):
    """Each tower, once its lane has been idle for a second."""
    rested: list[Tower] = []
    monkeypatch.setattr(EmbeddingModel, "rest", lambda self, tower: rested.append(tower))
    app_of(tiny_dir)
    wait_until(lambda: sorted(rested) == sorted(Tower))


def test_the_server_unloads_idle_towers_and_answers_as_before(tiny_dir, caplog):
    with caplog.at_level(logging.INFO, "siglip_edge"):
        client = app_of(tiny_dir, IDLE_UNLOAD_S="0.05", EMBEDDING_CACHE_SIZE="0")
        before = ask(client, ["a", PICTURE]).json["data"]
        wait_until(lambda: all(f"{tower} tower unloaded" in caplog.text for tower in Tower))
    assert ask(client, ["a", PICTURE]).json["data"] == before


def test_a_tower_can_wait_for_its_first_use(tiny_dir, caplog):
    """Ready at once; a text loads the text tower only, an image the other; the answers are those of a loaded server."""
    before = ask(app_of(tiny_dir), ["a", PICTURE]).json["data"]
    with caplog.at_level(logging.INFO, "siglip_edge"):
        client = app_of(tiny_dir, LOAD_TOWERS="first-use")
        caplog.clear()
        text = ask(client, ["a"]).json["data"]
        assert "text tower loaded and tested" in caplog.text
        assert "vision tower loaded and tested" not in caplog.text
        image = ask(client, [PICTURE]).json["data"]
        assert "vision tower loaded and tested" in caplog.text
    assert [text[0]["embedding"], image[0]["embedding"]] == [one["embedding"] for one in before]


def test_a_tower_that_cannot_be_loaded_at_its_first_use_is_503_until_it_can(tmp_path, caplog):
    """The other tower serves on; the log says why; the next request tries again."""
    directory = write_model(tmp_path / "tiny")
    client = app_of(directory, LOAD_TOWERS="first-use", EMBEDDING_CACHE_SIZE="0")
    graph = (directory / "vision_int8.onnx").read_bytes()
    (directory / "vision_int8.onnx").write_bytes(b"damaged")
    answer = ask(client, [PICTURE])
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert "the vision tower could not be loaded; the server's log says why" in answer.json["error"]["message"]
    assert "run the export again" in caplog.text
    assert ask(client, ["a"]).status_code == 200
    (directory / "vision_int8.onnx").write_bytes(graph)
    assert ask(client, [PICTURE]).status_code == 200


def answer_of_a_ready(server: Server) -> object:
    """The embeddings of a text and a picture, once both workers are ready."""
    body = json.dumps({"input": ["a text", PICTURE]}).encode()
    request = urllib.request.Request(f"{server.url}/v1/embeddings", body, {"Content-Type": "application/json"})
    wait_until(lambda: all(server.is_ready() for _ in range(20)))
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


def test_a_server_prepares_its_model_at_the_first_start_and_only_then(start, tiny_dir, tmp_path):
    """Two workers and two starts pack one graph per tower; the vectors equal those without packing."""
    answers, logs = [], []
    for prepare in ("false", "true", "true"):
        server = start(MODEL=str(tiny_dir), DEVICE="cpu", WORKERS="2", CACHE_DIR=str(tmp_path), PREPARE=prepare)
        answers.append(answer_of_a_ready(server))
        server.stop()
        logs.append(server.log.read_text().count("packing "))
    assert logs == [0, 2, 0]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.slow
def test_a_vision_tower_that_turns_wrong_after_the_first_start_has_a_successor(start, model_dir, tmp_path):
    """Its packed weights rot on the disk, unseen by size and time. Texts are answered at first; then the worker
    leaves, and the next one tests everything, refuses INT8 and serves FP16.
    """
    environ = {"MODEL": str(model_dir), "DEVICE": "cpu", "PREPARE": "true", "CACHE_DIR": str(tmp_path)}
    for _ in range(2):  # the second start is the first to read what the first one wrote
        start(**environ).stop()
    weights = max(tmp_path.glob("*/*/graph.onnx.bin"), key=lambda path: path.stat().st_size)
    times = weights.stat()
    weights.write_bytes(weights.read_bytes()[::-1])
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    server = start(**environ)
    with urllib.request.urlopen(f"{server.url}/health") as answer:
        (health,) = json.load(answer)["models"]
    assert (health["status"], health["precision"]) == ("ready", "fp16")
    assert "the vision tower" in health["refused"][0]
    assert server.log.read_text().count("model emoji-siglip ready") == 1
