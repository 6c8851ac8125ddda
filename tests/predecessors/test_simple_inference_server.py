"""Simple Inference Server: its README's request, answer, limits and presets, on the models that are served here."""

from __future__ import annotations

import httpx
import pytest

from tests.predecessors.conftest import EMOJI

CURL = """
curl -s -X POST http://localhost:8000/v1/embeddings \\
  -H "Content-Type: application/json" \\
  -d '{
        "model": "bge-m3",
        "input": ["hello", "world"]
      }'
"""


@pytest.fixture
def server(running):
    """The shipped model under the name of the README's example, with the README's limits."""
    return running(MODELS=f"bge-m3={EMOJI}", MAX_BATCH_SIZE="32", MAX_TEXT_CHARS="20000", EMBEDDING_CACHE_SIZE="256")


def post(server, **body):
    return httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=60)


def test_the_curl_example(server, shell):
    """The expected response shape; completion tokens, null there, are absent, as in OpenAI's answer."""
    answer = shell(server, CURL)
    assert (answer["object"], answer["model"]) == ("list", "bge-m3")
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    assert "completion_tokens" not in answer["usage"]


def test_a_model_that_is_not_served_is_404(running, shell):
    """The same command where no model has that name."""
    error = shell(running(MODEL=str(EMOJI)), CURL)["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_models_are_listed_with_id_owner_and_dimensions(server):
    (card,) = httpx.get(f"{server.url}/v1/models").json()["data"]
    assert (card["id"], card["dimensions"]) == ("bge-m3", 192)
    assert card["owned_by"]


@pytest.mark.parametrize(
    ("given", "code"), [(["a"] * 33, "too_many_inputs"), ("a" * 20_001, "text_too_long")], ids=["inputs", "characters"]
)
def test_batch_and_input_guards(server, given, code):
    """One more than allowed is a 400, the allowed number is not."""
    answer = post(server, input=given)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert post(server, input=given[:-1]).status_code == 200


def test_float_is_a_known_encoding_and_xml_is_not(server):
    assert post(server, input="hello", encoding_format="float").status_code == 200
    refused = post(server, input="hello", encoding_format="xml")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "encoding_format")


def test_repeated_inputs_come_from_the_cache(server):
    """EMBEDDING_CACHE_SIZE=256 keeps entries: the second request of a text is a hit."""

    def count(name):
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"embedding_cache_{name}_total"))

    hits, misses = count("hits"), count("misses")
    for _ in range(2):
        assert post(server, input="a text that no other test embeds").status_code == 200
    assert (count("hits") - hits, count("misses") - misses) == (1, 1)


def test_health_and_metrics(server):
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert httpx.get(f"{server.url}/metrics").status_code == 200


@pytest.mark.parametrize(
    "preset",
    [
        {
            "MODEL_DEVICE": "cpu",
            "MAX_CONCURRENT": "1",
            "BATCH_WINDOW_MS": "4",
            "BATCH_WINDOW_MAX_SIZE": "16",
            "MAX_QUEUE_SIZE": "128",
            "ENABLE_WARMUP": "1",
            "WARMUP_STEPS": "2",
            "WARMUP_BATCH_SIZE": "8",
        },
        {"BATCH_WINDOW_MS": "0", "MAX_CONCURRENT": "1"},
        {"ENABLE_BATCHING": "0", "ENABLE_METRICS": "0", "EMBEDDING_CACHE_SIZE": "0"},
    ],
    ids=["single GPU, on a CPU", "latency-sensitive", "everything off"],
)
def test_a_preset_serves(start, preset):
    """Each of its settings is known; the log warns about none."""
    server = start(MODEL=str(EMOJI), **preset)
    assert post(server, input=["hello", "world"]).status_code == 200
    batches = httpx.get(f"{server.url}/health").json()["batch_processing"]
    assert batches["enabled"] is (preset.get("ENABLE_BATCHING") != "0")
    if "MAX_CONCURRENT" in preset:
        assert batches["max_concurrent_batches"] == 1
        assert batches["batch_wait_time_ms"] == int(preset["BATCH_WINDOW_MS"])
    assert httpx.get(f"{server.url}/metrics").status_code == (404 if "ENABLE_METRICS" in preset else 200)
    assert server.stop() == 0
    assert "WARNING" not in server.log.read_text()
