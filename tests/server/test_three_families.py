"""A SigLIP, a text encoder and a CLIP in one server, under mixed load."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.server.batching.run_turns import RunTurns
from tests.server.conftest import data_uri, loading_app, png, wait_until
from tests.tiny_model import write_model
from tests.tiny_text_model import write_clip, write_text_encoder

TEXTS = ["a", "of all the longest", "two", "a longer text", "x y", "one more of them", "b"]
PICTURES = [data_uri(png((40 * number, 255 - 40 * number, 7), size=(20 + number, 10))) for number in range(6)]
INPUTS = {"siglip": [*TEXTS, *PICTURES], "texts": TEXTS, "clip": [*PICTURES, *TEXTS]}
LIMIT = 3


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "siglip": write_model(folder / "siglip", name="siglip"),
        "texts": write_text_encoder(folder / "texts"),
        "clip": write_clip(folder / "clip"),
    }


def client_of(directories: dict[str, Path], **environ: str) -> falcon.testing.TestClient:
    models = ",".join(f"{name}={directory}" for name, directory in directories.items())
    client = falcon.testing.TestClient(loading_app([], MODELS=models, EMBEDDING_CACHE_SIZE="0", **environ))
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    return client


def embedded(client: falcon.testing.TestClient, model: str, inputs: list[str]) -> list[Any]:
    answer = client.simulate_post("/v1/embeddings", json={"model": model, "input": inputs, "encoding_format": "base64"})
    assert answer.status_code == 200, answer.text
    return [item["embedding"] for item in answer.json["data"]]


class Counted:
    """Counts the runs under way in place of `GraphSession.run`, and can hold them."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.most = self.now = 0
        self.order: list[str] = []
        """The last input of each run's graph: only the text encoder has a mask."""
        self._run = GraphSession.run
        self._lock = threading.Lock()

    def run(self, session: GraphSession, batch: Any) -> Any:
        with self._lock:
            self.now += 1
            self.order.append([*batch][-1])
            self.most = max(self.most, self.now)
        try:
            self.gate.wait(30)
            return self._run(session, batch)
        finally:
            with self._lock:
                self.now -= 1


@pytest.fixture
def counted(monkeypatch):
    counted = Counted()

    def run(session: GraphSession, batch: Any) -> Any:
        return counted.run(session, batch)

    monkeypatch.setattr(GraphSession, "run", run)
    return counted


@pytest.fixture
def client(directories, counted):
    counted.gate.set()
    return client_of(directories, MAX_CONCURRENT_BATCHES=str(LIMIT))


def test_under_mixed_load_every_bit_is_that_of_the_model_alone(directories, client):
    """Requests of one and of many inputs from 24 threads."""
    alone = {
        name: [embedded(client_alone, name, [one])[0] for one in INPUTS[name]]
        for name, directory in directories.items()
        for client_alone in [client_of({name: directory})]
    }

    def ask(number: int) -> bool:
        name = list(directories)[number % 3]
        chosen = [(number * 5 + step) % len(INPUTS[name]) for step in range(1 + number % 9)]
        vectors = embedded(client, name, [INPUTS[name][index] for index in chosen])
        return vectors == [alone[name][index] for index in chosen]

    with ThreadPoolExecutor(24) as threads:
        assert all(threads.map(ask, range(300)))


def test_the_runs_of_all_models_keep_to_one_limit(directories, counted):
    """While those that are allowed are held, every other row waits in its queue. A run has one row here."""
    counted.gate.set()
    client = client_of(directories, MAX_CONCURRENT_BATCHES=str(LIMIT), BATCH_SIZE="1")
    assert client.simulate_get("/health").json["batch_processing"]["max_concurrent_batches"] == LIMIT
    counted.gate.clear()
    counted.most = 0
    asked = [(name, text) for name in INPUTS for text in TEXTS[:3]]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = [threads.submit(embedded, client, name, [text]) for name, text in asked]
        try:
            wait_until(lambda: client.simulate_get("/health").json["queue_size"] == len(asked) - LIMIT)
            wait_until(lambda: counted.now == LIMIT)
        finally:
            counted.gate.set()
        assert all(answer.result() for answer in answers)
    assert counted.most == LIMIT


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The models that have asked for a turn, in order."""
    asked: list[str] = []
    ask = RunTurns._ask

    def recorded(turns: RunTurns, model: str) -> object:
        turn = ask(turns, model)
        asked.append(model)
        return turn

    monkeypatch.setattr(RunTurns, "_ask", recorded)
    return asked


def test_a_model_with_a_pile_of_work_lets_the_others_in(directories, counted, asked):
    """A text for another model runs next, and not behind sixty images."""
    counted.gate.set()
    client = client_of(directories, MAX_CONCURRENT_BATCHES="1")
    counted.gate.clear()
    counted.order.clear()
    with ThreadPoolExecutor(2) as threads:
        pile = threads.submit(embedded, client, "siglip", [data_uri(png((number, 0, 0))) for number in range(60)])
        try:
            wait_until(lambda: counted.now == 1)
            text = threads.submit(embedded, client, "texts", ["a"])
            wait_until(lambda: "texts" in asked)
        finally:
            counted.gate.set()
        assert text.result()
        assert pile.result()
    assert counted.order.index("attention_mask") == 1
