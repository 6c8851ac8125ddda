"""Inputs as objects, content parts and messages: the right vector, or a 400 that names the key."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.server.conftest import data_uri, png

RED, BLUE = data_uri(png("red")), data_uri(png("blue"))
BARE = RED.partition(",")[2]


def post(client, body, status=200, path="/v1/embeddings"):
    answer = client.simulate_post(path, body=json.dumps(body))  # escapes what is no character
    assert answer.status_code == status, answer.text
    return answer.json


def vectors(client, given):
    return np.array([item["embedding"] for item in post(client, {"input": given})["data"]], np.float32)


def mean(*rows):
    total = np.mean(rows, axis=0)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize(
    "spelt",
    [
        {"image": RED},
        {"image": BARE},
        {"image": f" {RED}\n"},
        {"image_url": RED},
        {"image_url": {"url": RED}},
        {"image_base64": BARE},
        {"image_base64": RED},
        {"type": "image", "image": RED},
        {"type": "image", "image_url": RED},
        {"type": "image_url", "image_url": {"url": RED, "detail": "high"}},
        {"type": "image_url", "image_url": RED, "text": None},
        {"type": "image_base64", "image_base64": BARE},
        {"type": "input_image", "image_url": RED, "detail": "auto"},
        {"content": [{"type": "image_url", "image_url": {"url": RED}}]},
        {"content": [RED]},
        {"content": RED},
    ],
)
def test_every_spelling_of_an_image(client, spelt):
    """Each gives the vector of the data URI, alone and in a list."""
    expected = vectors(client, RED)
    assert np.array_equal(vectors(client, spelt), expected)
    assert np.array_equal(vectors(client, ["a cat", spelt])[1:], expected)


@pytest.mark.parametrize(
    "spelt",
    [
        {"text": "cat.jpg"},
        {"type": "text", "text": "cat.jpg"},
        {"type": "input_text", "text": "cat.jpg"},
        {"content": [{"type": "text", "text": "cat.jpg"}]},
    ],
)
def test_every_spelling_of_a_text(client, spelt):
    """A text that is said to be one is a text, whatever it looks like."""
    as_text = post(client, {"input": "cat.jpg", "modality": "text"})
    assert post(client, {"input": spelt})["data"] == as_text["data"]


def test_content_gives_the_normalised_mean_of_its_parts(client):
    """Any number of texts and images; each part counts once, and usage counts them all."""
    cat, dog, red, blue = vectors(client, ["a cat", "a dog", RED, BLUE])
    body = {"input": [{"content": [{"type": "text", "text": "a cat"}, RED, {"image": BLUE}, "a dog"]}, "a cat"]}
    answer = post(client, body)
    joint = np.array(answer["data"][0]["embedding"], np.float32)
    assert np.allclose(joint, mean(cat, dog, red, blue), atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 18, "total_tokens": 18, "image_patches": 8}
    assert np.array_equal(
        vectors(client, {"text": "a cat", "image_url": RED})[0], vectors(client, {"text": "a cat", "image": RED})[0]
    )


def test_messages_stand_in_place_of_input(client):
    """One message of a user gives one vector: of its string, or of all parts of its content."""
    parts = [{"type": "image_url", "image_url": {"url": RED}}, {"type": "text", "text": "a cat"}]
    for content, same in (
        ("a cat", "a cat"),
        (parts, {"content": parts}),
        ([{"type": "text", "text": "cat.jpg"}], {"text": "cat.jpg"}),
    ):
        answer = post(client, {"messages": [{"role": "user", "content": content}], "encoding_format": "float"})
        assert answer == post(client, {"input": same})


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"text": "a caption", "images": [RED]}, "input[1].images", "unknown key `images`"),
        ({"text": "a caption", "Image": RED}, "input[1].Image", "allowed: type, text, image, image_url, image_base64"),
        ({"text": "a", "instruction": "b"}, "input[1].instruction", "unknown key"),
        ({"image_url": {"url": RED, "uri": RED}}, "input[1].image_url.uri", "allowed: url, detail"),
        ({"image_url": {}}, "input[1].image_url.url", "missing required field `url`"),
        ({"image_url": 5}, "input[1].image_url", "Expected"),
        ({"content": [{"type": "text", "text": "a", "caption": "b"}]}, "input[1].content[0].caption", "unknown key"),
        ({"content": [{"type": "video_url", "video_url": "x"}]}, "input[1].content[0].type", "allowed: text, image, image_url"),
        ({"content": []}, "input[1].content", "empty"),
        ({"content": [{}]}, "input[1].content[0]", "one of text, image"),
        ({"content": ["a", ""]}, "input[1].content[1]", "empty"),
        ({"content": [{"text": "a"}, {"image": "cat.png"}]}, "input[1].content[1].image", "IMAGE_ROOT"),
        ({"content": ["a", "cat.png"]}, "input[1].content[1]", "IMAGE_ROOT"),
        ({"content": ["a"], "text": "b"}, "input[1]", "no other key beside"),
        ({"content": ["a"] * 257}, "input", "at most 256"),
        ({"type": "image", "text": RED}, "input[1].type", '"type" is "image", and the object has "text"'),
        ({"type": "image_url", "image_url": {"url": RED}, "text": "a"}, "input[1].type", "content"),
        ({"type": "text", "image": RED}, "input[1].type", "image"),
        ({"type": "image_url", "image": RED}, "input[1].type", "image"),
        ({"type": "file", "file": RED}, "input[1]", "allowed"),
        ({"type": "a\udc00b", "text": "a"}, "input[1]", "half of a character"),
        ({"\ud800": "a"}, "input[1]", "half of a character"),
        ({"type": "text"}, "input[1]", "one of text"),
        ({"type": None}, "input[1]", "one of text"),
        ({"image": RED, "image_url": BLUE}, "input[1]", "several images in one object"),
        ({}, "input[1]", "one of text"),
        ({"text": ["a"]}, "input[1].text", "Expected `str"),
        (None, "input[1]", "a string, an object"),
        (1.5, "input[1]", "a string, an object"),
        (True, "input[1]", "a string, an object"),
        (["a"], "input[1]", "a string, an object"),
        ([[1]], "input[1]", "a string, an object"),
    ],
)  # fmt: skip
def test_nothing_of_an_input_is_dropped(client, given, param, words):
    """An unknown key, a wrong type or a contradiction is a 400 that names it, and with on_error null the neighbours live."""
    error = post(client, {"input": ["a cat", given, "a dog"]}, 400)["error"]
    assert error["param"].startswith(param)
    assert words in error["message"]
    if param != "input":
        data = post(client, {"input": ["a cat", given, "a dog"], "on_error": "null"})["data"]
        assert [item["embedding"] is None for item in data] == [False, True, False]
        assert data[1]["error"]["param"] == error["param"]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "missing required field `input`"),
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "messages", "only one of them"),
        ({"messages": []}, "messages", "exactly one message"),
        ({"messages": "a"}, "messages", "Expected `array`"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "messages", "exactly one message"),
        ({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]}, "messages[0].role", "'system'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content", "empty"),
        ({"messages": [{"role": "user", "content": "a", "name": "me"}]}, "messages[0].name", "unknown key"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages[0].content[0].image_url", "not an image"),
    ],
)  # fmt: skip
def test_other_conversations_are_refused(client, body, param, words):
    """A model of texts and images has no vector for a conversation, so nothing of one is ignored."""
    error = post(client, body, 400)["error"]
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    "source", ["2024/trip/IMG_2.JPG", "file:///data/cat.png", "data:;base64,AAAA", f"a {RED}", "\x89PNG\r\n\x1a\n"]
)
def test_no_route_takes_an_image_for_a_text(client, source):
    """Every field that takes a plain string refuses what is meant as an image, and says how to send it as a text."""
    bodies = {
        "/v1/embeddings": [{"input": source}, {"input": ["a", source]}, {"messages": [{"role": "user", "content": source}]}],
        "/v1/rank": [{"query": source, "candidates": ["a"]}, {"query": "a", "candidates": ["a", {"content": ["a", source]}]}],
        "/v1/classify": [{"image": source, "labels": ["a"]}],
        "/evaluator/v1/evaluation/single": [{"image": source, "text": "a"}],
        "/embedding": [{"content": source}, {"content": [{"prompt_string": source}]}],
        "/rerank": [{"query": source, "documents": ["a"]}, {"query": "a", "texts": [source]}],
    }  # fmt: skip
    for path, given in bodies.items():
        for body in given:
            post(client, body, 400, path)


def test_modality_states_the_kind_on_every_route_that_judges(client):
    """With modality text, a path is a text and is repeated as sent."""
    path = "2024/trip/" + "IMG_2" * 20 + ".JPG"
    bodies: dict[str, dict[str, Any]] = {
        "/v1/rank": {"query": path, "candidates": [path]},
        "/embedding": {"content": [{"prompt_string": path}]},
        "/rerank": {"query": path, "documents": [path], "return_documents": True},
    }
    for route, body in bodies.items():
        assert (path in str(post(client, {**body, "modality": "text"}, path=route))) is (route != "/embedding")
        post(client, {**body, "modality": "image"}, 400, route)


def test_fields_of_one_image_take_objects(client):
    """`image` of a classification and of a pair may be a content part; a text, or several parts, are refused by name."""
    part = {"type": "image_url", "image_url": {"url": RED}}
    for path, body in (
        ("/v1/classify", {"labels": ["a", "b"]}),
        ("/evaluator/v1/evaluation/single", {"text": "a"}),
    ):
        answers = [post(client, {**body, "image": image}, path=path) for image in (RED, part, {"content": [part]})]
        assert len({str({**answer, "image": None}) for answer in answers}) == 1
        for image, param in (
            ({"text": "a"}, "image"),
            ({"content": [part, "a"]}, "image.content[1]"),
            ({"images": []}, "image.images"),
            (5, "image"),
        ):
            assert post(client, {**body, "image": image}, 400, path)["error"]["param"] == param
    items = [{"image": part, "text": "a"}, {"image": {"text": "a"}, "text": "a"}]
    results = post(client, {"items": items}, path="/evaluator/v1/evaluation/batch")["results"]
    assert [result.get("error", {}).get("param") for result in results] == [None, "items[1].image"]
    assert post(client, {"labels": ["a"], "image": part}, path="/v1/classify")["image"]["image_url"] == {
        "url": RED[:64] + "…"
    }


def test_rank_repeats_content_with_images_shortened(client):
    """Objects come back as they were sent, but for the images."""
    query = {"content": [{"type": "text", "text": RED}, {"type": "image_url", "image_url": {"url": RED}}, RED]}
    result = post(client, {"query": [query], "candidates": [{"image_url": RED}]}, path="/v1/rank")["results"][0]
    cut = RED[:64] + "…"
    assert result["query"] == {
        "content": [{"type": "text", "text": RED}, {"type": "image_url", "image_url": {"url": cut}}, cut]
    }
    assert result["rankings"][0]["candidate"] == {"image_url": cut}


@pytest.mark.parametrize(
    ("query", "candidates", "param"),
    [
        ("a", "b", "candidates"),
        ("a", {"text": "b"}, "candidates"),
        ([1, 2], ["a"], "query"),
        (["b", 2], ["a"], "query[1]"),
        ("a", [3], "candidates[0]"),
        ("a", None, "candidates"),
    ],
)
def test_rank_takes_inputs_only(client, query, candidates, param):
    """Another type is a 400 that names it."""
    error = post(client, {"query": query, "candidates": candidates}, 400, "/v1/rank")["error"]
    assert error["param"] == param


class TestImageRoot:
    """Paths of the server's files, with IMAGE_ROOT."""

    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "root"
        (root / "2024/my trip").mkdir(parents=True)
        (root / "red.png").write_bytes(png("red"))
        (root / "2024/my trip/IMG 2.JPG").write_bytes(png("red"))
        (root / "2024/hash").write_bytes(png("red"))
        (root / "2024/notes").write_text("a text")
        (root / "cat").write_bytes(png("red"))
        (tmp_path / "outside.png").write_bytes(png("red"))
        (root / "link.png").symlink_to(tmp_path / "outside.png")
        (root / "inner.png").symlink_to(root / "red.png")
        return root

    def test_a_path_below_the_root_is_its_image(self, client_of, root):
        """Relative, absolute, as a URI, percent-encoded, with backslashes, through a link that stays below the root."""
        client = client_of(IMAGE_ROOT=str(root))
        paths = [
            *("red.png", " red.png\n", "./red.png", "2024/my trip/IMG 2.JPG", "2024/my%20trip/IMG%202.JPG", "2024/hash", "inner.png"),
            *("2024\\my trip\\IMG 2.JPG", f"{root}/red.png", f"file://{root}/red.png", f"file://localhost{root}/red.png"),
            *(f"file:{root}/2024/my%20trip/IMG%202.JPG", "file://red.png", "file:red.png", '"red.png"'),
        ]  # fmt: skip
        expected = vectors(client, RED)[0]
        for path in paths:
            assert np.array_equal(vectors(client, path)[0], expected), path
            assert np.array_equal(vectors(client, {"image": path})[0], expected), path

    def test_nothing_else_below_or_beside_it_is_read(self, client_of, root):
        """Outside of the root, through .. or a link, it is as if nothing were there."""
        client = client_of(IMAGE_ROOT=str(root))
        for path in (
            "../outside.png",
            "link.png",
            f"{root}/missing",
            f"{root.parent}/outside.png",
            "%2e%2e/outside.png",
            "file:///etc/passwd",
            "..\\outside.png",
        ):
            error = post(client, {"input": path}, 400)["error"]
            assert error["code"] == "image_not_found", path

    def test_garbage_is_no_path(self, client_of, root):
        """Base64 of something else, and several lines, are told that they are no image."""
        client = client_of(IMAGE_ROOT=str(root))
        for source in ("QUJD" * 5000, "red.png\nred.png"):
            assert "not an image" in post(client, {"input": {"image": source}}, 400)["error"]["message"]

    def test_texts_stay_texts(self, client_of, root):
        """A word that is the name of a file, a path of another file, and a folder are texts."""
        client = client_of(IMAGE_ROOT=str(root))
        for text in ("cat", "2024/notes", "2024/my trip", "and/or", "/r/aww"):
            assert post(client, {"input": text})["usage"]["prompt_tokens"] > 0
        assert post(client, {"input": "red.png", "modality": "text"})["usage"]["prompt_tokens"] > 0


def test_bytes_that_are_base64_of_base64_are_told(client):
    """What looks like an image and is none is a 400, never a text."""
    twice = base64.b64encode(BARE.encode()).decode()
    assert post(client, {"input": {"image": twice}}, 400)["error"]["param"] == "input.image"


def test_the_document_shows_every_spelling(client):
    """`/openapi.json` lists the keys that an input may have, and forbids others, as the server does."""
    schemas = client.simulate_get("/openapi.json").json["components"]["schemas"]
    error = post(client, {"input": {"other": 1}}, 400)["error"]["message"]
    assert error.partition("allowed: ")[2].split(", ") == list(schemas["InputObject"]["properties"])
    assert schemas["InputObject"]["additionalProperties"] is False
    assert {"input", "messages"} <= set(schemas["EmbeddingsRequest"]["properties"])
    assert "InputObject" in str(schemas["EmbeddingsRequest"]["properties"]["input"])
