"""Vision-Language Similarity Service's API: its field names beside ours, its health, metrics and documentation."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from siglip_edge.runtime.scoring import clip_score
from tests.server.conftest import data_uri, png

PAIR = {"image_input": data_uri(png()), "text_prompt": "a red picture", "model_config_name": "tiny"}


def single(client, status=200, **fields):
    answer = client.simulate_post("/evaluator/v1/evaluation/single", json={**PAIR, **fields})
    assert answer.status_code == status, answer.text
    return answer.json


def batch(client, evaluations, status=200, **fields):
    answer = client.simulate_post("/evaluator/v1/evaluation/batch", json={"evaluations": evaluations, **fields})
    assert answer.status_code == status, answer.text
    return answer.json


class TestSingle:
    def test_the_clip_score_is_100_times_the_cosine_above_zero(self, client):
        """Their fields with their meaning, and beside them the calibrated score and cosine of our own route."""
        body = single(client)
        ours = client.simulate_post(
            "/evaluator/v1/evaluation/single", json={"image": PAIR["image_input"], "text": PAIR["text_prompt"]}
        ).json
        assert (body["score"], body["similarity"]) == (ours["score"], ours["similarity"])
        assert body["clip_score"] == pytest.approx(max(100 * ours["similarity"], 0))
        assert (body["text_prompt"], body["model_used"]) == ("a red picture", "tiny")
        assert body["image_input"].startswith("data:image/png;base64,")
        assert body["processing_time_ms"] >= 0
        assert "error" not in body

    def test_a_cosine_below_zero_has_no_negative_score(self):
        assert [clip_score(cosine) for cosine in (-0.5, 0.0, 0.25, 1.0)] == [0, 0, 25, 100]

    def test_without_a_name_the_default_model_answers(self, client):
        """Absent or null."""
        body = client.simulate_post(
            "/evaluator/v1/evaluation/single", json={key: PAIR[key] for key in ("image_input", "text_prompt")}
        ).json
        assert body["model_used"] == single(client, model_config_name=None)["model_used"] == "tiny"

    @pytest.mark.parametrize(
        ("fields", "status", "param"),
        [
            ({"image_input": ""}, 400, "image_input"),
            ({"image_input": "data:image/png;base64,AAAA"}, 400, "image_input"),
            ({"image_input": "https://example.com/a.png"}, 400, "image_input"),
            ({"image_input": 3}, 400, "image_input"),
            ({"text_prompt": ""}, 400, "text_prompt"),
            ({"text_prompt": None}, 400, "text_prompt"),
            ({"model_config_name": "fast"}, 404, "model_config_name"),
            ({"model_config_name": 3}, 400, "model_config_name"),
        ],
    )
    def test_a_wrong_field_is_named_by_their_name(self, client, fields, status, param):
        error = single(client, status, **fields)["error"]
        assert (error["param"], error["type"]) == (param, "invalid_request_error")

    def test_half_of_each_spelling_is_told_what_is_missing(self, client):
        """A body with one of their fields is theirs."""
        answer = client.simulate_post("/evaluator/v1/evaluation/single", json={"image": "x", "text_prompt": "a"})
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "image_input")


class TestBatch:
    def test_totals_and_results_in_order(self, client):
        """A failed pair has an error that names its field, and its neighbours their scores."""
        broken = {**PAIR, "image_input": "data:image/png;base64,AAAA"}
        other = {**PAIR, "text_prompt": "another text"}
        body = batch(client, [PAIR, broken, other, {**PAIR, "text_prompt": ""}], batch_size=8, show_progress=False)
        assert (body["total_processed"], body["total_successful"], body["total_failed"]) == (4, 2, 2)
        assert body["total_processing_time_ms"] >= 0
        first, bad, second, empty = body["results"]
        assert (first["clip_score"], second["clip_score"]) == (
            single(client)["clip_score"],
            single(client, text_prompt="another text")["clip_score"],
        )
        assert (bad["clip_score"], bad["score"], bad["similarity"]) == (None, None, None)
        assert bad["error"].startswith("evaluations[1].image_input: ")
        assert empty["error"] == "evaluations[3].text_prompt: the text is empty"
        assert "error" not in first

    @pytest.mark.parametrize(
        ("bad", "param"),
        [
            ({"image_input": "x"}, "evaluations[0].text_prompt"),
            ({**PAIR, "text_prompt": 3}, "evaluations[0].text_prompt"),
            ({**PAIR, "image_input": None}, "evaluations[0].image_input"),
            ({**PAIR, "model_config_name": 3}, "evaluations[0].model_config_name"),
            ("a string", "evaluations[0]"),
            (None, "evaluations[0]"),
        ],
    )
    def test_a_pair_that_cannot_be_read_fails_alone(self, client, bad, param):
        """Its result has the strings that it had and names the field; the neighbour is scored."""
        failed, good = batch(client, [bad, PAIR])["results"]
        assert failed["error"].startswith(f"{param}: ")
        assert failed["clip_score"] is None
        assert good["clip_score"] == single(client)["clip_score"]

    def test_a_model_that_is_not_served_fails_its_pairs_alone(self, client):
        """Each pair names its own model."""
        body = batch(client, [{**PAIR, "model_config_name": "accurate"}, PAIR])
        assert [result["model_used"] for result in body["results"]] == ["accurate", "tiny"]
        assert body["results"][0]["error"].startswith("evaluations[0].model_config_name: no model 'accurate' here")
        assert (body["total_successful"], body["total_failed"]) == (1, 1)

    @pytest.mark.parametrize(
        ("evaluations", "fields", "param"),
        [
            ([], {}, "evaluations"),
            ([PAIR] * 300, {}, "evaluations"),
            ("a", {}, "evaluations"),
            ([PAIR], {"batch_size": 0}, "batch_size"),
            ([PAIR], {"batch_size": 129}, "batch_size"),
            ([PAIR], {"show_progress": "yes"}, "show_progress"),
        ],
    )
    def test_a_wrong_request_is_named(self, client, evaluations, fields, param):
        """What concerns the request as a whole is a 400."""
        assert batch(client, evaluations, 400, **fields)["error"]["param"] == param


def test_models_of_one_batch_are_used_each_for_its_pairs(two):
    """`fast` and `accurate` are names of the operator's: MODELS=fast=…,accurate=…"""
    pairs = [{**PAIR, "model_config_name": name} for name in ("fast", "accurate", "fast")]
    results = batch(two, pairs)["results"]
    assert [result["model_used"] for result in results] == ["fast", "accurate", "fast"]
    for pair, result in zip(pairs, results, strict=True):
        assert result["clip_score"] == single(two, **pair)["clip_score"]
    assert results[0]["similarity"] == results[2]["similarity"] != results[1]["similarity"]


class TestOperations:
    def test_health_is_available_and_names_the_models(self, client):
        assert client.simulate_get("/evaluator/health").json == {
            "status": "available",
            "service": "siglip-edge",
            "model_loaded": True,
            "available_configs": ["tiny"],
        }

    def test_health_is_503_while_the_model_loads(self, client_of, fake):
        fake.loading = Future()
        answer = client_of().simulate_get("/evaluator/health")
        assert (answer.status_code, answer.json["error"]["code"]) == (503, "not_ready")

    def test_metrics_and_documentation_are_those_of_the_other_paths(self, client_of):
        """The same registry, the same page; off and locked as the other path is."""
        client = client_of()
        single(client)
        metrics = client.simulate_get("/evaluator/metrics")
        assert metrics.headers["Content-Type"] == client.simulate_get("/metrics").headers["Content-Type"]
        assert 'face="similarity",method="POST",route="/evaluator/v1/evaluation/single",status="200"' in metrics.text
        assert client.simulate_get("/evaluator/docs").text == client.simulate_get("/docs").text
        assert client_of(ENABLE_METRICS="false").simulate_get("/evaluator/metrics").status_code == 404
        locked = client_of(API_KEYS="first", PROTECT_METRICS="true")
        assert locked.simulate_get("/evaluator/metrics").status_code == 401
        assert locked.simulate_get("/evaluator/health").status_code == 200
        assert locked.simulate_get("/evaluator/docs").status_code == 200
        assert locked.simulate_post("/evaluator/v1/evaluation/single", json=PAIR).status_code == 401

    def test_without_the_face_only_our_spelling_is_known(self, client_of):
        client = client_of(FACES="openai,native")
        answer = client.simulate_post("/evaluator/v1/evaluation/single", json=PAIR)
        assert (answer.status_code, answer.json["error"]["param"]) == (400, "image")
        assert client.simulate_get("/evaluator/health").status_code == 404


def test_the_root_says_what_this_is(client):
    """Name, version and the paths to go on with."""
    body = client.simulate_get("/").json
    assert (body["name"], body["model"], body["docs"], body["health"]) == ("siglip-edge", "tiny", "/docs", "/health")
    for name in ("docs", "openapi", "health"):
        assert client.simulate_get(body[name]).status_code == 200
