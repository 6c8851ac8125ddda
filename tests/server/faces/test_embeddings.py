"""`POST /v1/embeddings` over a fake model."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.shortening import Rotation
from tests.server.conftest import data_uri, form, png, wait_until


def embed(client, given, status=200, headers=None, **fields):
    answer = client.simulate_post("/v1/embeddings", json={"input": given, **fields}, headers=headers or {})
    assert answer.status_code == status, answer.text
    return answer.json


def vectors(body):
    return np.array([item["embedding"] for item in body["data"]], np.float32)


def test_a_text_gives_one_unit_vector_in_openais_shape(client):
    """A string gives a list of one embedding, its usage and the model's name."""
    body = embed(client, "a cat")
    assert body["object"] == "list"
    assert body["model"] == "tiny"
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0)]
    assert body["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert np.linalg.norm(vectors(body)[0]) == pytest.approx(1, abs=1e-6)


def test_the_alias_without_v1(client):
    """`/embeddings` answers as `/v1/embeddings` does."""
    answer = client.simulate_post("/embeddings", json={"input": "a cat"})
    assert answer.json == embed(client, "a cat")


def test_base64_is_little_endian_float32(client):
    """encoding_format base64, float and null carry the same bits."""
    exact = vectors(embed(client, "a cat", encoding_format="float"))
    encoded = embed(client, "a cat", encoding_format="base64")["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), exact[0])
    assert np.array_equal(vectors(embed(client, "a cat", encoding_format=None)), exact)


def test_every_way_to_send_an_image_is_the_same_image(client):
    """Data URI, bare base64 and {"image": …} of the same file give the same vector, as does the text of {"text": …}."""
    uri = data_uri(png())
    bare = uri.partition(",")[2]
    body = embed(client, [uri, bare, {"image": uri}, {"image": bare}, "a cat", {"text": "a cat"}])
    got = vectors(body)
    assert all(np.array_equal(got[0], row) for row in got[1:4])
    assert np.array_equal(got[4], got[5])
    assert not np.array_equal(got[0], got[4])
    assert body["usage"] == {"prompt_tokens": 12, "total_tokens": 12, "image_patches": 16}


def test_order_is_kept_in_a_mixed_request(client):
    """Texts and images mixed in one request come back in their places."""
    inputs = ["one", data_uri(png("red")), "two", data_uri(png("blue")), "three"]
    together = vectors(embed(client, inputs))
    alone = np.concatenate([vectors(embed(client, one)) for one in inputs])
    assert np.array_equal(together, alone)


def test_a_joint_input_is_the_normalised_mean(client):
    """{"text", "image"} gives the L2-normalised mean of both embeddings."""
    uri = data_uri(png())
    text, image, joint = vectors(embed(client, ["a cat", uri, {"text": "a cat", "image": uri}]))
    mean = (text + image) / 2
    assert np.allclose(joint, mean / np.linalg.norm(mean), atol=1e-6)


def test_modality_overrides_the_guess(client):
    """modality text makes a data URI a text; modality image makes a plain word a bad image."""
    uri = data_uri(png())
    as_text = embed(client, uri, modality="text")
    assert as_text["usage"].get("image_patches") is None
    assert embed(client, "a cat", status=400, modality="image")["error"]["param"] == "input"


def test_a_long_text_is_truncated_and_says_so(client):
    """The item of a text that is longer than the tower's length has "truncated": true; other items have no such field."""
    items = embed(client, ["a" * 100, "a"])["data"]
    assert items[0]["truncated"] is True
    assert "truncated" not in items[1]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ("", "input", "empty_input"),
        ([], "input", "empty_input"),
        (["a", ""], "input[1]", "empty_input"),
        ([{"text": ""}], "input[0].text", "empty_input"),
        ([{}], "input[0]", "invalid_input"),
        ({"image": ""}, "input.image", "empty_input"),
        ([1, 2, 3], "input", "token_ids_refused"),
        ([[1, 2], [3]], "input[0]", "token_ids_refused"),
        (["a", 3], "input[1]", "invalid_value"),
        (5, "input", "invalid_value"),
        (["a", True], "input[1]", "invalid_value"),
        (None, "input", "invalid_value"),
        ("data:image/png;base64,AAAA", "input", "image_undecodable"),
        ("data:image/png,rawbytes", "input", "image_undecodable"),
        ("data:image/png;base64,!!!!", "input", "image_undecodable"),
        ("https://example.com/cat.png", "input", "image_url_refused"),
        ({"image": "/etc/passwd"}, "input.image", "unsupported_input"),
        ({"image": "cat.png"}, "input.image", "unsupported_input"),
        ("x" * 140_000, "input", "text_too_long"),
        (["a"] * 300, "input", "too_many_inputs"),
    ],
)
def test_bad_inputs_are_named(client, given, param, code):
    """A bad input is a 400 in OpenAI's shape whose param names it."""
    error = embed(client, given, status=400)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


@pytest.mark.parametrize(
    ("field", "allowed"),
    [
        ("encoding_format", "float, base64, int8, uint8, binary, ubinary"),
        ("embedding_type", "float, base64, int8, uint8, binary, ubinary"),
        ("modality", "text, image"),
        ("on_error", "fail, null"),
    ],
)
def test_a_word_that_is_not_known_is_told_those_that_are(client, field, allowed):
    """The 400 names the field and every allowed value."""
    error = embed(client, "a", status=400, **{field: "hex"})["error"]
    assert (error["param"], error["code"]) == (field, "invalid_value")
    assert error["message"] == f"Invalid enum value 'hex'; allowed: {allowed}"


def test_a_word_in_a_form_is_told_those_that_are_known(client):
    """Forms are parsed by the same types."""
    answer = client.simulate_post("/v1/embeddings/image", **form([("input", "a"), ("encoding_format", "hex")]))
    assert answer.json["error"]["message"] == (
        "Invalid enum value 'hex'; allowed: float, base64, int8, uint8, binary, ubinary"
    )


def test_token_ids_are_refused_with_the_way_out(client):
    """The refusal of token ids names LangChain's check_embedding_ctx_length=False."""
    assert "check_embedding_ctx_length=False" in embed(client, [[1, 2]], status=400)["error"]["message"]


def test_this_models_token_ids_can_be_allowed(client_of):
    """With ACCEPT_TOKEN_IDS a list of ids embeds as the text it stands for, alone or in a list; foreign ids are refused."""
    client = client_of(ACCEPT_TOKEN_IDS="true")
    one = vectors(embed(client, [5, 6, 1]))
    assert one.shape[0] == 1
    assert np.array_equal(vectors(embed(client, [[5, 6, 1], [7, 1]]))[0], one[0])
    assert embed(client, [[5, 999_999]], status=400)["error"]["param"] == "input[0]"


@pytest.mark.parametrize("given", [5, ["a", 5], [5, "a"], 0.5])
@pytest.mark.parametrize("accepted", ["true", "false"])
def test_a_bare_number_is_no_input(client_of, accepted, given):
    """ACCEPT_TOKEN_IDS is no remedy for it."""
    message = embed(client_of(ACCEPT_TOKEN_IDS=accepted), given, status=400)["error"]["message"]
    assert message == "a bare number is no input: an input is a string, an object, or a list of token ids"


def test_rank_takes_token_ids_too(client_of):
    """As a query, in a list of queries and among the candidates; the answer repeats them."""
    client = client_of(ACCEPT_TOKEN_IDS="true")
    for query, repeated in (([5, 6], [[5, 6]]), ([[5, 6], "a"], [[5, 6], "a"])):
        answer = client.simulate_post("/v1/rank", json={"query": query, "candidates": [[7, 8], "b", [5, 6]]}).json
        assert [result["query"] for result in answer["results"]] == repeated
        assert answer["results"][0]["rankings"][0]["candidate"] == [5, 6]
    error = client.simulate_post("/v1/rank", json={"query": "a", "candidates": [7, 8]}).json["error"]
    assert (error["param"], "a bare number is no input" in error["message"]) == ("candidates[0]", True)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/rank", {"query": "a", "candidates": []}, "candidates"),
        ("/v1/rank", {"query": [], "candidates": ["a"]}, "query"),
        ("/v1/classify", {"image": data_uri(png()), "labels": []}, "labels"),
        ("/evaluator/v1/evaluation/batch", {"items": []}, "items"),
        ("/evaluator/v1/evaluation/batch", {"evaluations": []}, "evaluations"),
    ],
)
def test_an_empty_list_is_named_in_words(client, path, body, param):
    error = client.simulate_post(path, json=body).json["error"]
    assert (error["param"], error["message"]) == (param, f"{param}: the list is empty")


def test_a_wrong_type_is_told_without_null(client):
    """An optional null counts as absent, and is no value to send."""
    error = client.simulate_post("/v1/embeddings", json={"input": "a", "dimensions": "8"}).json["error"]
    assert error["message"] == "Expected `int`, got `str`"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"dimensions": 8}, "dimensions"),
        ({"on_error": "ignore"}, "on_error"),
        ({"model": 3}, "model"),
    ],
)
def test_a_known_field_with_a_wrong_value_is_named(client, fields, param):
    """A known field with a wrong type or value is a 400 that names it."""
    assert embed(client, "a cat", status=400, **fields)["error"]["param"] == param


def test_unknown_fields_are_ignored(client):
    """Clients add fields of their own."""
    assert embed(client, "a cat", input_type="query", user="me") == embed(client, "a cat")


def test_native_dimensions_are_accepted(client):
    """`dimensions` equal to the model's own changes nothing."""
    assert embed(client, "a cat", dimensions=12) == embed(client, "a cat")


def test_shorter_dimensions_are_rotated_cut_and_renormalised(client, fake):
    """With a rotation a shorter vector is the prefix in its basis, of unit length, for texts and images alike."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0].astype(np.float32)
    fake._shortening = Rotation(basis)
    inputs = ["a cat", data_uri(png())]
    native = vectors(embed(client, inputs))
    prefix = (native @ basis.T)[:, :5]
    shorter = vectors(embed(client, inputs, dimensions=5))
    assert np.allclose(shorter, prefix / np.linalg.norm(prefix, axis=1, keepdims=True), atol=1e-6)
    encoded = embed(client, "a cat", dimensions=5, encoding_format="base64")["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), shorter[0])
    assert embed(client, "a cat", status=400, dimensions=13)["error"]["param"] == "dimensions"


def test_an_unknown_model_is_404(client):
    """An unknown model is a 404 that names the served models."""
    error = embed(client, "a cat", status=404, model="text-embedding-3-small")["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "tiny" in error["message"]


def test_on_error_null_keeps_the_good_inputs(client):
    """With on_error null, a bad item has a null embedding and its error, and other items are embedded."""
    data = embed(client, ["a cat", "data:image/png;base64,AAAA", ""], on_error="null")["data"]
    assert vectors({"data": data[:1]}).shape == (1, 12)
    assert [item["embedding"] for item in data[1:]] == [None, None]
    assert [item["error"]["code"] for item in data[1:]] == ["image_undecodable", "empty_input"]
    assert [item["error"]["param"] for item in data[1:]] == ["input[1]", "input[2]"]


def test_one_bad_image_costs_no_run(client, fake):
    """A request that fails on a bad image has run nothing."""
    embed(client, ["a cat", "data:image/png;base64,AAAA"], status=400)
    assert fake.runs == []


def test_the_answer_names_its_space_and_another_space_is_409(client):
    """X-Embedding-Space is on the answer; a request that expects another space gets 409 and no vector."""
    answer = client.simulate_post("/v1/embeddings", json={"input": "a cat"})
    assert answer.headers["X-Embedding-Space"] == "tiny-space"
    embed(client, "a cat", headers={"X-Embedding-Space": "tiny-space"}, expect_space="tiny-space")
    error = embed(client, "a cat", status=409, expect_space="other")["error"]
    assert error["code"] == "embedding_space_mismatch"
    embed(client, "a cat", status=409, headers={"X-Embedding-Space": "other"})


def test_ids_and_timings_are_on_the_answer(client):
    """X-Request-ID is taken over when it is a plain word, made otherwise; Server-Timing names the stages."""
    answer = client.simulate_post(
        "/v1/embeddings", json={"input": ["a", data_uri(png())]}, headers={"X-Request-ID": "abc"}
    )
    assert answer.headers["X-Request-ID"] == "abc"
    stages = [part.split(";")[0].strip() for part in answer.headers["Server-Timing"].split(",")]
    assert set(stages) == {"decode", "tokenize", "queue", "inference", "total"}
    hostile = client.simulate_get("/v1/models", headers={"X-Request-ID": "a b\tc"}).headers["X-Request-ID"]
    assert len(hostile) == 32


def test_the_same_input_runs_once(client, fake):
    """A repeated input, in one request or later, comes from the cache and gives the same bits."""
    first = vectors(embed(client, ["a cat", "a cat", "A CAT"]))
    assert np.array_equal(vectors(embed(client, "a cat"))[0], first[0])
    assert np.array_equal(first[0], first[2])  # canonicalised alike
    assert fake.runs == [(Tower.TEXT, 1)]


def test_a_failed_run_is_a_500_that_tells_nothing(client, fake):
    """The answer to a failed run is a fixed sentence with the request id; the next request is served."""
    fake.failure = RuntimeError("secret detail")
    error = embed(client, "a cat", status=500, headers={"X-Request-ID": "abc"})["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "abc" in error["message"]
    assert "secret" not in error["message"]
    fake.failure = None
    embed(client, "a cat")


def test_a_full_queue_is_429_with_retry_after(client_of, fake):
    """When the queue is full the answer is 429, in OpenAI's shape, with Retry-After in whole seconds."""
    client = client_of(MAX_QUEUE_SIZE="2", MAX_BATCH_SIZE="2")
    fake.gate.clear()
    import threading

    waiting = [threading.Thread(target=embed, args=(client, text)) for text in ("one", "two", "three")]
    waiting[0].start()
    assert fake.entered.acquire(timeout=30)  # the first is inside the run; the others fill the queue
    for thread in waiting[1:]:
        thread.start()
    wait_until(lambda: client.simulate_get("/health").json["queue_size"] == 2)
    answer = client.simulate_post("/v1/embeddings", json={"input": "four"})
    fake.gate.set()
    for thread in waiting:
        thread.join(30)
    assert answer.status_code == 429
    assert (answer.json["error"]["type"], answer.json["error"]["code"]) == ("rate_limit_error", "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_request_out_of_time_is_504(client_of, fake):
    """A request without an answer within REQUEST_TIMEOUT gets 504."""
    client = client_of(REQUEST_TIMEOUT="0.1")
    fake.gate.clear()
    error = embed(client, "a cat", status=504)["error"]
    fake.gate.set()
    assert (error["type"], error["code"]) == ("server_error", "deadline_exceeded")
