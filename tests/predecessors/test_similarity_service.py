"""Vision-Language Similarity Service: its five routes, as its command line and its load test call them."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.predecessors.conftest import EMOJI


@pytest.fixture
def server(running, pictures, picture_host):
    """Both of the service's profiles, by MODELS; pictures on the server's disk and on another host."""
    return running(
        MODELS=f"fast={EMOJI},accurate={EMOJI}",
        IMAGE_ROOT=str(pictures),
        ALLOW_IMAGE_URLS="true",
        IMAGE_URL_HOSTS=picture_host,
    )


@pytest.fixture
def sources(pictures, picture_host):
    """The forms in which the load test sends a picture: a path on the server, a data URI, a URL."""
    path = pictures / "image.jpg"
    inline = base64.b64encode(path.read_bytes()).decode()
    return [str(path), f"data:image/jpeg;base64,{inline}", f"http://{picture_host}/image.jpg"]


def post(server, path, body):
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_service_health_check(server):
    """The load test waits for `available`."""
    answer = httpx.get(f"{server.url}/evaluator/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "available")
    assert answer.json()["available_configs"] == ["fast", "accurate"]


@pytest.mark.parametrize("profile", ["fast", "accurate"])
def test_single_evaluation(server, sources, profile):
    """A path, a data URI and a URL of one picture have one score; the right text has the higher one."""
    scores = {
        text: {
            post(
                server,
                "/evaluator/v1/evaluation/single",
                {"image_input": source, "text_prompt": text, "model_config_name": profile},
            )["clip_score"]
            for source in sources
        }
        for text in ("pizza", "a bicycle")
    }
    (right,), (wrong,) = scores["pizza"], scores["a bicycle"]
    assert 100 >= right > wrong >= 0


def test_batch_evaluation(server, sources):
    """The command line reads each result's `clip_score`, else its `error`; the load test counts `total_processed`."""
    images = [*sources, "missing.jpg"]
    evaluations = [{"image_input": image, "text_prompt": "pizza", "model_config_name": "fast"} for image in images]
    body = post(
        server,
        "/evaluator/v1/evaluation/batch",
        {"evaluations": evaluations, "batch_size": 32, "show_progress": True},
    )
    assert (body["total_processed"], body["total_successful"], body["total_failed"]) == (4, 3, 1)
    *good, missing = body["results"]
    (score,) = {result["clip_score"] for result in good}
    assert score > 0
    assert missing["clip_score"] is None
    assert missing["error"].startswith("evaluations[3].image_input: ")


def test_prometheus_metrics(server):
    answer = httpx.get(f"{server.url}/evaluator/metrics")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")


def test_interactive_api_documentation(server):
    answer = httpx.get(f"{server.url}/evaluator/docs")
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
