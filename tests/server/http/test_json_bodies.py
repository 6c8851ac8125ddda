"""JSON as other people's libraries write it: right, or a 400 that names the field."""

from __future__ import annotations

import json

import pytest

from tests.server.conftest import data_uri, png

RED = data_uri(png("red"))
HALF = "half of a \ud83d"
"""JavaScript cuts an emoji so."""


def send(client, body: bytes | str, path="/v1/embeddings"):
    return client.simulate_post(path, body=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    ("path", "key"),
    [("/v1/embeddings", "input"), ("/embeddings", "input"), ("/embeddings", "content"), ("/embedding", "content")],
)
def test_every_encoding_of_json(client, encoding, path, key):
    """With a byte order mark, in UTF-16 or UTF-32: the answer is that of UTF-8, on paths of two APIs too."""
    body = json.dumps({key: ["ein Käse", "猫"]}, ensure_ascii=False)
    answer = send(client, body.encode(encoding), path)
    assert answer.status_code == 200, answer.text
    assert answer.json == send(client, body.encode(), path).json


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"input": NaN}', b'{"input": "a", "dimensions": Infinity}', b'{"input": "a", "x": -Infinity}', b'{"input": "\\ud800", "x": NaN}'),
        *(b'{"input": "\xed\xa0\x80"}', b'{"input": "\xff"}', "{'input': 'a'}", '{"input": "a"', '{"input": "a"}{}', '{"input": "a\nb"}'),
        *('{"input": "\\x"}', '{"input": ' + "[" * 5000 + "]" * 5000 + "}", '{"input": "\\ud800", "x": ' + "[" * 99_999 + "}"),
        *(b"\xff\xfe{\x00", b"\x00\x00\xfe\xff", b"\xef\xbb\xbf", '{"input": 1e999}', "[]", '"a"', "null"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_400(client, body):
    """Numbers that JSON lacks, other quotation marks, depth without end: 400 in the usual shape."""
    answer = send(client, body)
    assert answer.status_code == 400, answer.text
    assert answer.json["error"]["code"] in {"invalid_json", "invalid_value"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/embeddings", {"input": ["a", HALF]}, "input[1]"),
        ("/v1/embeddings", {"input": {"text": "\udc00"}}, "input.text"),
        ("/v1/embeddings", {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}, "messages[0].content[0].text"),
        ("/v1/rank", {"query": "a", "candidates": ["a", HALF]}, "candidates[1]"),
        ("/v1/rank", {"query": HALF, "candidates": ["a"]}, "query"),
        ("/v1/classify", {"image": RED, "labels": ["a", HALF]}, "labels[1]"),
        ("/v1/classify", {"image": RED, "labels": ["a"], "template": HALF + "{}"}, "labels[0]"),
        ("/evaluator/v1/evaluation/single", {"image": RED, "text": HALF}, "text"),
        ("/embedding", {"content": ["a", HALF]}, "content[1]"),
        ("/rerank", {"query": "a", "documents": [HALF]}, "documents[0]"),
    ],
)  # fmt: skip
def test_half_of_a_character_is_named(client, path, body, param):
    """A lone surrogate is no character, so the text that has it is refused by name."""
    answer = send(client, json.dumps(body), path)
    assert answer.status_code == 400, answer.text
    error = answer.json["error"]
    assert "half of a character" in error["message"]
    assert error.get("param", error["message"].partition(":")[0]) == param


def test_half_of_a_character_costs_the_neighbours_nothing(client):
    """With on_error null the other texts are embedded, and a whole emoji in escapes is one character."""
    body = json.dumps({"input": ["a cat", HALF, "\U0001f408"], "on_error": "null"})
    data = send(client, body).json["data"]
    assert [item["embedding"] is None for item in data] == [False, True, False]
    assert data[2]["embedding"] == send(client, json.dumps({"input": "\U0001f408"})).json["data"][0]["embedding"]


@pytest.mark.parametrize("field", ["model", "expect_space", "encoding_format", "modality", "on_error"])
def test_half_of_a_character_in_other_fields(client, field):
    """A refusal that repeats it is JSON that every client reads."""
    answer = send(client, json.dumps({"input": "a", field: HALF}))
    assert answer.status_code in {400, 404, 409}
    json.loads(answer.content.decode()).get("error")["message"].encode()


@pytest.mark.parametrize(
    ("path", "body", "optional"),
    [
        (
            "/v1/embeddings",
            {"input": "a"},
            ["messages", "on_error", "modality", "dimensions", "encoding_format", "model"],
        ),
        ("/v1/rank", {"query": "a", "candidates": ["a", "b"]}, ["top_n", "return_scores", "modality"]),
        ("/v1/classify", {"image": data_uri(png("red")), "labels": ["a"]}, ["multi_label", "template"]),
    ],
)
def test_null_is_absent(client, path, body, optional):
    """Clients that write every field of a type send null for those that are not set."""
    assert (
        send(client, json.dumps(body | dict.fromkeys(optional)), path).json == send(client, json.dumps(body), path).json
    )


def test_null_for_a_required_field_is_named(client):
    """It is not absent, and no text either."""
    answer = send(client, '{"input": null}')
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input")


def test_the_last_of_two_equal_keys_counts(client):
    """As in every JSON library."""
    assert send(client, '{"input": "a", "input": "b"}').json == send(client, '{"input": "b"}').json


@pytest.mark.parametrize("number", [10**18, 10**30])
def test_huge_numbers(client, number):
    """A number beyond 64 bits is a number: `top_n` keeps every candidate, `dimensions` is refused."""
    assert (
        len(
            send(client, json.dumps({"query": "a", "candidates": ["a", "b"], "top_n": number}), "/v1/rank").json[
                "results"
            ][0]["rankings"]
        )
        == 2
    )
    assert send(client, json.dumps({"input": "a", "dimensions": number})).json["error"]["param"] == "dimensions"


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "\ufeff",
        "\u200b",
        "\x01\x02",
        "\u2028",
        "\x7f",
        "\U000e0001",
        "\ufffe",
        "\t",
        " ",
        "\n\n",
        "\u3000",
        "x" * 32_768,
        "🐈" * 9_000,
        "Ⱥ" * 2_000,
    ],
)
def test_odd_texts_are_embedded_alike_everywhere(client, text):
    """Characters that cannot be seen, blanks alone and very long words are texts: the same vector alone and among others."""
    alone = send(client, json.dumps({"input": text}))
    among = send(client, json.dumps({"input": ["a cat", text, {"text": text}], "encoding_format": "float"}))
    assert alone.status_code == among.status_code == 200, among.text
    assert [item["embedding"] for item in among.json["data"][1:]] == [alone.json["data"][0]["embedding"]] * 2
