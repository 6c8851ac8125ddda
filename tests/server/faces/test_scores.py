"""Rank, classify and evaluate over a fake model: shapes, order, calibration, per-item errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siglip_edge.runtime.artifacts.manifest import Tower
from tests.server.conftest import Field, data_uri, form, png

SCALE, BIAS = 10.0, -2.0
"""The tiny model's manifest."""


def post(client, path, body, status=200):
    answer = client.simulate_post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json


def vector(client, given):
    return np.array(post(client, "/v1/embeddings", {"input": given})["data"][0]["embedding"], np.float32)


def calibrated(similarity):
    return 1 / (1 + math.exp(-(SCALE * similarity + BIAS)))


def test_rank_orders_candidates_best_first(client):
    """Each query gets every candidate, best first, with its cosine and the calibrated probability."""
    texts = ["one", "two", data_uri(png())]
    body = post(client, "/v1/rank", {"query": ["q", texts[2]], "candidates": texts})
    assert body["model"] == "tiny"
    for query, result in zip(["q", texts[2]], body["results"], strict=True):
        similarities = [ranking["similarity"] for ranking in result["rankings"]]
        assert similarities == sorted(similarities, reverse=True)
        for ranking in result["rankings"]:
            expected = float(vector(client, query) @ vector(client, texts[ranking["index"]]))
            assert ranking["similarity"] == pytest.approx(expected, abs=1e-6)
            assert ranking["score"] == pytest.approx(calibrated(ranking["similarity"]), abs=1e-6)
    assert body["results"][1]["rankings"][0]["index"] == 2
    assert body["usage"] == {"prompt_tokens": 10, "total_tokens": 10, "image_patches": 8}


def test_rank_echoes_inputs_with_images_shortened(client):
    """A text is repeated as sent; an image is cut, so that answers do not carry megabytes."""
    uri = data_uri(png(size=(50, 50)))
    body = post(client, "/v1/rank", {"query": {"image": uri}, "candidates": ["cat", uri]})
    assert len(body["results"][0]["query"]["image"]) == 65
    echoed = {ranking["index"]: ranking["candidate"] for ranking in body["results"][0]["rankings"]}
    assert echoed[0] == "cat"
    assert echoed[1] == uri[:64] + "…"


def test_rank_options(client):
    """top_n keeps the best; return_scores false leaves the scores out."""
    body = post(client, "/v1/rank", {"query": "q", "candidates": ["a", "b", "c"], "top_n": 2, "return_scores": False})
    rankings = body["results"][0]["rankings"]
    assert [set(ranking) for ranking in rankings] == [{"index", "candidate"}] * 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "q", "candidates": []}, "candidates"),
        ({"query": [], "candidates": ["a"]}, "query"),
        ({"query": "q", "candidates": ["a", ""]}, "candidates[1]"),
        ({"query": "q", "candidates": ["a"], "top_n": 0}, "top_n"),
        ({"query": "q"}, "candidates"),
    ],
)
def test_bad_rank_requests_are_named(client, body, param):
    """A bad query or candidate is a 400 that names it."""
    assert post(client, "/v1/rank", body, 400)["error"]["param"] == param


def test_classify_uses_the_models_template(client):
    """Labels are embedded in the manifest's sentence; each score is its own calibrated probability."""
    uri = data_uri(png())
    body = post(client, "/v1/classify", {"image": uri, "labels": ["cat", "dog"]})
    assert body["image"] == uri[:64] + "…"
    for item in body["classifications"]:
        expected = float(vector(client, uri) @ vector(client, f"This is a photo of {item['label']}."))
        assert item["similarity"] == pytest.approx(expected, abs=1e-6)
        assert item["score"] == pytest.approx(calibrated(expected), abs=1e-6)


def test_classify_with_a_softmax(client):
    """multi_label false: scores sum to one, in the same order."""
    request = {"image": data_uri(png()), "labels": ["cat", "dog", "bird"]}
    many = post(client, "/v1/classify", request)["classifications"]
    one = post(client, "/v1/classify", {**request, "multi_label": False})["classifications"]
    assert [item["label"] for item in one] == [item["label"] for item in many]
    assert sum(item["score"] for item in one) == pytest.approx(1, abs=1e-5)


def test_classify_again_runs_only_the_image(client, fake):
    """Label sentences come from the cache: classifying another image with the same labels costs one image run."""
    labels = ["cat", "{dog}", "bird"]
    post(client, "/v1/classify", {"image": data_uri(png("red")), "labels": labels})
    fake.runs.clear()
    post(client, "/v1/classify", {"image": data_uri(png("blue")), "labels": labels, "template": None})
    assert fake.runs == [(Tower.VISION, 1)]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"labels": []}, "labels"),
        ({"labels": ["cat", ""]}, "labels[1]"),
        ({"labels": "cat"}, "labels"),
        ({"template": "a photo"}, "template"),
        ({"image": "a cat"}, "image"),
        ({"image": ""}, "image"),
    ],
)
def test_bad_classify_requests_are_named(client, change, param):
    """A bad image, label or template is a 400 that names it."""
    body = {"image": data_uri(png()), "labels": ["cat"], **change}
    assert post(client, "/v1/classify", body, 400)["error"]["param"] == param


@pytest.mark.parametrize("labels", [[("labels", "cat, dog")], [("labels", "cat"), ("labels", "dog")]])
def test_classify_an_upload(client, labels):
    """A file with labels as one comma-separated field or repeated ones: as the JSON request, with the file's name."""
    answer = client.simulate_post("/v1/classify/image", **form([("file", ("red.png", png())), *labels]))
    same = post(client, "/v1/classify", {"image": data_uri(png()), "labels": ["cat", "dog"]})
    assert answer.json == {
        "filename": "red.png",
        "classifications": same["classifications"],
        "model": "tiny",
    }


def test_classify_an_upload_with_options(client):
    """Form fields are text: multi_label=false is understood, a wrong one is named, and so is any number of files but one."""
    fields: list[Field] = [("file", ("red.png", png())), ("labels", "cat,dog")]
    answer = client.simulate_post("/v1/classify/image", **form([*fields, ("multi_label", "false")]))
    assert sum(item["score"] for item in answer.json["classifications"]) == pytest.approx(1, abs=1e-5)
    bad = client.simulate_post("/v1/classify/image", **form([*fields, ("multi_label", "perhaps")]))
    assert (bad.status_code, bad.json["error"]["param"]) == (400, "multi_label")
    for files in ([], [("file", ("red.png", png()))] * 2):
        refused = client.simulate_post("/v1/classify/image", **form([*files, ("labels", "cat")]))
        assert (refused.status_code, refused.json["error"]["param"]) == (400, "file")


def test_embedding_uploads(client):
    """Files and input fields of a form give the embeddings of the same images and texts, files first."""
    fields: list[Field] = [("input", "a cat"), ("file", ("a.png", png("red"))), ("file", ("b.png", png("blue")))]
    answer = client.simulate_post("/v1/embeddings/image", **form(fields))
    assert answer.status_code == 200, answer.text
    inputs = [data_uri(png("red")), data_uri(png("blue")), "a cat"]
    assert answer.json == post(client, "/v1/embeddings", {"input": inputs})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("file", ("a.png", png())), ("file", ("b.png", b"not an image"))], "file[1]"),
        ([("file", ("a.png", b""))], "file[0]"),
        ([("model", "tiny")], "file"),
        ([("file", ("a.png", png())), ("encoding_format", "hex")], "encoding_format[0]"),
    ],
)
def test_bad_uploads_are_named(client, fields, param):
    """A bad file or field is a 400 that names it."""
    answer = client.simulate_post("/v1/embeddings/image", **form(fields))
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_broken_forms_are_400_and_other_bodies_415(client):
    """A form that cannot be read is the caller's error."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.simulate_post("/v1/embeddings/image", body=b"--y\r\n", headers=headers).status_code == 400
    assert client.simulate_post("/v1/embeddings/image", json={"file": "x"}).status_code == 415
    unbounded = {"Content-Type": "multipart/form-data"}
    assert client.simulate_post("/v1/embeddings/image", body=b"x", headers=unbounded).status_code == 400


def test_evaluate_one_pair(client):
    """Image and text give their cosine and calibrated probability."""
    uri = data_uri(png())
    body = post(client, "/evaluator/v1/evaluation/single", {"image": uri, "text": "a cat"})
    assert body["similarity"] == pytest.approx(float(vector(client, uri) @ vector(client, "a cat")), abs=1e-6)
    assert body["score"] == pytest.approx(calibrated(body["similarity"]), abs=1e-6)


def test_evaluate_a_batch_with_errors_in_place(client):
    """One result or error per item, in order; with on_error fail, the first bad item fails the request."""
    good = {"image": data_uri(png()), "text": "a cat"}
    items = [good, {**good, "image": "data:image/png;base64,AAAA"}, {**good, "text": ""}, good]
    results = post(client, "/evaluator/v1/evaluation/batch", {"items": items})["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3]
    assert [result["score"] is None for result in results] == [False, True, True, False]
    assert [result.get("error", {}).get("param") for result in results] == [
        None,
        "items[1].image",
        "items[2].text",
        None,
    ]
    failed = post(client, "/evaluator/v1/evaluation/batch", {"items": items, "on_error": "fail"}, 400)
    assert failed["error"]["param"] in {"items[1].image", "items[2].text"}
    assert post(client, "/evaluator/v1/evaluation/batch", {"items": []}, 400)["error"]["param"] == "items"


@pytest.mark.parametrize(
    ("bad", "param"),
    [
        ({"image": 5, "text": "a"}, "items[1].image"),
        ({"text": "a"}, "items[1].image"),
        ({"image": data_uri(png()), "text": "a", "images": []}, "items[1].images"),
        (None, "items[1]"),
        ("a", "items[1]"),
    ],
)
def test_a_pair_that_is_none_costs_the_others_nothing(client, bad, param):
    """A wrong type, a missing or an unknown key is the error of its pair alone."""
    good = {"image": data_uri(png()), "text": "a cat"}
    results = post(client, "/evaluator/v1/evaluation/batch", {"items": [good, bad, good]})["results"]
    assert [result["score"] is None for result in results] == [False, True, False]
    assert results[1]["error"]["param"] == param
    assert post(client, "/evaluator/v1/evaluation/batch", {"items": {}}, 400)["error"]["param"] == "items"
