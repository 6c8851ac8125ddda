"""TEXT_TEMPLATE: a sentence around every text that is embedded or ranked."""

from __future__ import annotations

import pytest

from siglip_edge.runtime.artifacts.space_id import templated
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid
from tests.server.conftest import data_uri, png

PHOTO = "This is a photo of {}."


@pytest.fixture
def wrapped(client_of):
    """The app with siglip2-api's sentence."""
    return client_of(TEXT_TEMPLATE=PHOTO)


def embedded(client, *inputs, **fields):
    answer = client.simulate_post("/v1/embeddings", json={"input": list(inputs), **fields})
    return [item["embedding"] for item in answer.json["data"]]


def test_texts_are_put_into_the_sentence(client, wrapped):
    """Also in a joint input; images are as before."""
    image = data_uri(png())
    assert embedded(wrapped, "a cat", image) == embedded(client, "This is a photo of a cat.", image)
    joint = {"text": "a {} cat", "image": image}
    assert embedded(wrapped, joint) == embedded(client, {**joint, "text": "This is a photo of a {} cat."})


def test_candidates_and_queries_too(client, wrapped):
    """Ranking compares what embedding gives; the echo is what the caller sent."""
    ranked = {
        template: app.simulate_post("/v1/rank", json={"query": query, "candidates": candidates}).json["results"][0]
        for template, app, query, candidates in [
            ("on", wrapped, "a cat", ["a dog", "a cow"]),
            ("off", client, PHOTO.replace("{}", "a cat"), [PHOTO.replace("{}", it) for it in ("a dog", "a cow")]),
        ]
    }
    scores = {on: [(it["index"], it["similarity"]) for it in result["rankings"]] for on, result in ranked.items()}
    assert scores["on"] == scores["off"]
    assert ranked["on"]["query"] == "a cat"


def test_labels_have_their_own_sentence(client, wrapped):
    """/v1/classify puts labels into its template alone, and an evaluated text is taken as it is."""
    request = {"image": data_uri(png()), "labels": ["a cat", "a dog"]}
    assert (
        wrapped.simulate_post("/v1/classify", json=request).json
        == client.simulate_post("/v1/classify", json=request).json
    )
    pair = {"image": data_uri(png()), "text": "a cat"}
    path = "/evaluator/v1/evaluation/single"
    assert wrapped.simulate_post(path, json=pair).json == client.simulate_post(path, json=pair).json


def test_it_is_another_space(wrapped):
    """The served space_id differs from the directory's, everywhere; 409 follows it."""
    space = templated("tiny-space", PHOTO)
    assert space != templated("tiny-space", "{}.") != "tiny-space"
    answer = wrapped.simulate_post("/v1/embeddings", json={"input": "x", "expect_space": space})
    assert (answer.status_code, answer.headers["X-Embedding-Space"]) == (200, space)
    refused = wrapped.simulate_post("/v1/embeddings", json={"input": "x", "expect_space": "tiny-space"})
    assert refused.status_code == 409
    assert wrapped.simulate_get("/v1/models").json["data"][0]["space_id"] == space
    assert wrapped.simulate_get("/health").json["models"][0]["space_id"] == space
    assert f'space_id="{space}"' in wrapped.simulate_get("/metrics").text


def test_no_template_is_the_space_of_the_directory():
    assert templated("tiny-space", None) == "tiny-space"


@pytest.mark.parametrize("given", [{"TEXT_TEMPLATE": "a photo"}, {"TEXT_TEMPLATE": "{}!", "ACCEPT_TOKEN_IDS": "true"}])
def test_a_template_that_cannot_be_is_refused(given):
    """Without a place for the text, or beside token ids, which cannot be put into a sentence."""
    with pytest.raises(SettingsInvalid, match="TEXT_TEMPLATE"):
        Settings.from_env(given)
