"""siglip2-api's batching guide: its settings, its health answer, and its test_batch.py, rewritten from the description."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.predecessors.conftest import EMOJI

BASE = "siglip2-base-patch16-512"
CONFIGURATION = {
    "BATCH_SIZE": "8",
    "BATCH_WAIT_TIME_MS": "50",
    "AUTO_SCALE_WORKERS": "true",
    "CPU_UTILIZATION_FACTOR": "0.75",
    "MAX_CONCURRENT_BATCHES": "6",
    "MAX_QUEUE_SIZE": "1000",
    "REQUEST_TIMEOUT": "300",
    "QUEUE_OVERFLOW_ACTION": "reject",
}
"""The guide's block of environment variables."""

TEXTS = [
    "A beautiful sunset over the mountains",
    "A cat sitting on a windowsill",
    "A bowl of fruit on a table",
    "A train in a station",
    "Children at the beach",
    "A snowy street at night",
    "A red bicycle against a wall",
    "An old book, open",
]


def health(server):
    answer = httpx.get(f"{server.url}/health")
    assert answer.status_code == 200
    return answer.json()


def runs_of_texts(server):
    """-> (rows, runs) of the text tower so far."""
    metrics = httpx.get(f"{server.url}/metrics").text
    found = dict(re.findall(r'^\w*batch_rows_(sum|count)\{.*tower="text".*\} (\S+)$', metrics, re.MULTILINE))
    return float(found.get("sum", 0)), float(found.get("count", 0))


def test_the_health_answer_of_the_guide(running):
    """Every field of the example, with the values of the settings; the processor is this machine's."""
    body = health(running(MODELS=f"{BASE}={EMOJI}", **CONFIGURATION))
    assert (body["status"], body["model_loaded"], body["device"]) == ("healthy", True, "cpu")
    batches = body["batch_processing"]
    assert set(batches) == {
        "enabled",
        "batch_size",
        "batch_wait_time_ms",
        "max_concurrent_batches",
        "auto_scaling",
        "cpu_count",
        "queue_size",
        "max_queue_size",
        "active_workers",
        "total_workers",
    }
    assert (batches["enabled"], batches["batch_size"], batches["batch_wait_time_ms"]) == (True, 8, 50)
    assert (batches["max_concurrent_batches"], batches["max_queue_size"]) == (6, 1000)
    assert 0 <= batches["active_workers"] <= batches["total_workers"]


async def send_all(url):
    """Eight requests at the same time, one text each."""
    async with httpx.AsyncClient(timeout=60) as client:
        asked = [client.post(f"{url}/v1/embeddings", json={"model": BASE, "input": text}) for text in TEXTS]
        return await asyncio.gather(*asked)


def test_batch_py(start):
    """Health and its batch_processing; eight concurrent requests, all answered; batching works: fewer runs than requests.

    A batch waits longer than in the guide, so that a busy machine cannot tear the requests apart.
    """
    server = start(MODELS=f"{BASE}={EMOJI}", **{**CONFIGURATION, "BATCH_WAIT_TIME_MS": "1000"})
    assert health(server)["batch_processing"]["enabled"] is True
    rows, runs = runs_of_texts(server)
    answers = asyncio.run(send_all(server.url))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert {len(answer.json()["data"][0]["embedding"]) for answer in answers} == {192}
    rows_after, runs_after = runs_of_texts(server)
    assert rows_after - rows == 8
    assert runs_after - runs < 8


@pytest.mark.parametrize(
    "preset",
    [
        {"BATCH_SIZE": "16", "BATCH_WAIT_TIME_MS": "25", "MAX_QUEUE_SIZE": "2000"},
        {"BATCH_SIZE": "4", "BATCH_WAIT_TIME_MS": "10", "MAX_CONCURRENT_BATCHES": "8"},
        {"MAX_CONCURRENT_BATCHES": "2", "BATCH_SIZE": "4", "AUTO_SCALE_WORKERS": "false"},
    ],
    ids=["high throughput", "low latency", "memory constrained"],
)
def test_a_preset_of_the_guide_serves(start, preset):
    """The settings are in force; the plan may run fewer rows at once than BATCH_SIZE, never more."""
    server = start(MODEL=str(EMOJI), **preset)
    batches = health(server)["batch_processing"]
    assert 1 < batches["batch_size"] <= int(preset["BATCH_SIZE"])
    for setting, field in (
        ("BATCH_WAIT_TIME_MS", "batch_wait_time_ms"),
        ("MAX_QUEUE_SIZE", "max_queue_size"),
        ("MAX_CONCURRENT_BATCHES", "max_concurrent_batches"),
    ):
        if setting in preset:
            assert batches[field] == int(preset[setting])
    assert httpx.post(f"{server.url}/v1/embeddings", json={"input": "a cat"}).status_code == 200
    assert server.stop() == 0
