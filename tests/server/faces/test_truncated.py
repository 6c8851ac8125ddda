"""`truncated`: every answer that is made of a text longer than the model's length says so, and no other answer does."""

from __future__ import annotations

import pytest

from tests.server.conftest import Field, data_uri, form, png

LONG, SHORT = "a" * 100, "b"
PICTURE = data_uri(png())


def post(client, path, **body):
    answer = client.simulate_post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json


def cut(items, key="index"):
    """-> the items that say they were cut, by their index. Asserts that the others have no such field."""
    assert all(item.get("truncated", True) is True for item in items)
    return [item[key] for item in items if "truncated" in item]


def test_ranking_tells_queries_from_candidates(client):
    body = post(client, "/v1/rank", query=[LONG, SHORT], candidates=[SHORT, LONG, PICTURE], return_scores=False)
    first, second = body["results"]
    assert (first["truncated"], "truncated" in second) == (True, False)
    assert cut(first["rankings"]) == cut(second["rankings"]) == [1]


def test_an_input_of_several_parts_is_cut_where_its_text_is(client):
    candidates = [{"text": LONG, "image": PICTURE}, {"text": SHORT, "image": PICTURE}]
    (result,) = post(client, "/v1/rank", query=SHORT, candidates=candidates)["results"]
    assert cut(result["rankings"]) == [0]


@pytest.mark.parametrize("field", ["documents", "texts"])
def test_reranking_says_so_of_the_pair(client, field):
    """Neither API has a place for a fact of the query alone."""

    def results(query):
        answer = post(client, "/v1/rerank", query=query, **{field: [SHORT, LONG]})
        return answer["results"] if field == "documents" else answer

    assert cut(results("q")) == [1]
    assert sorted(cut(results(LONG))) == [0, 1]


def test_classification_of_a_label(client):
    labels = ["x" * 100, "b"]
    body = post(client, "/v1/classify", image=PICTURE, labels=labels, template="{}")
    fields: list[Field] = [("file", ("a.png", png())), ("template", "{}"), *(("labels", label) for label in labels)]
    answer = client.simulate_post("/v1/classify/image", **form(fields))
    assert cut(body["classifications"], "label") == cut(answer.json["classifications"], "label") == labels[:1]


def test_the_score_of_a_pair(client):
    path = "/evaluator/v1/evaluation"
    assert post(client, f"{path}/single", image=PICTURE, text=LONG)["truncated"] is True
    assert "truncated" not in post(client, f"{path}/single", image=PICTURE, text=SHORT)
    items = [{"image": PICTURE, "text": text} for text in (LONG, SHORT, "")]
    assert cut(post(client, f"{path}/batch", items=items)["results"]) == [0]


def test_the_score_of_a_pair_by_the_similarity_services_names(client):
    path = "/evaluator/v1/evaluation"
    pairs = [{"image_input": PICTURE, "text_prompt": text} for text in (LONG, SHORT, "")]
    assert post(client, f"{path}/single", **pairs[0])["truncated"] is True
    results = post(client, f"{path}/batch", evaluations=pairs)["results"]
    assert cut(results, "text_prompt") == [LONG]


@pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
def test_an_embedding_of_llamacpp(client, path):
    assert cut(post(client, path, content=[SHORT, LONG, {"prompt_string": LONG}])) == [1, 2]


def test_the_cache_keeps_it(client):
    """The second answer needs no run, and says the same."""
    for _ in range(2):
        (item,) = post(client, "/embedding", content=LONG)
        assert item["truncated"] is True
