"""`encoding_format` and `embedding_type` of `/v1/embeddings`: each encoding by its formula, and which one wins."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest

from siglip_edge.runtime.shortening import Rotation
from tests.server.conftest import Field, form, png

DTYPES = {"float": "<f4", "int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}
INTEGERS = ["int8", "uint8", "binary", "ubinary"]
TEXTS = ["a cat", "a dog", "una pizza", "一只猫"]


def ask(client, given="a cat", status=200, **fields):
    answer = client.simulate_post("/v1/embeddings", json={"input": given, **fields})
    assert answer.status_code == status, answer.text
    return answer.json


def rows(body):
    return [item["embedding"] for item in body["data"]]


def expected(kind, unit):
    """The formulas of the API's contract, written out."""
    bits = np.packbits(unit > 0)
    return {
        "float": unit,
        "int8": np.rint(127 * unit),
        "uint8": np.rint((unit + 1) * 127.5),
        "ubinary": bits,
        "binary": bits.astype(int) - 128,
    }[kind].tolist()


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("field", ["encoding_format", "embedding_type"])
def test_integers_by_either_name_of_the_field(client, field, kind):
    """A list of integers by the formula of its encoding; the answer says which encoding it is."""
    units = np.array(rows(ask(client, TEXTS)))
    body = ask(client, TEXTS, **{field: kind})
    assert rows(body) == [expected(kind, unit) for unit in units]
    assert all(isinstance(number, int) for row in rows(body) for number in row)
    assert body["encoding_format"] == kind


@pytest.mark.parametrize("kind", DTYPES)
def test_base64_of_each_has_the_width_of_its_type(client, kind):
    """`base64` beside a type is the base64 of that type's bytes: four per number, one, or one per eight."""
    body = ask(client, TEXTS, embedding_type=[kind, "base64"])
    plain = rows(ask(client, TEXTS, encoding_format=kind))
    decoded = [np.frombuffer(base64.b64decode(row), DTYPES[kind]) for row in rows(body)]
    assert np.array_equal(decoded, np.array(plain, DTYPES[kind]))
    assert body["encoding_format"] == [kind, "base64"]


def test_several_types_are_an_object_by_name(client):
    """Each vector once per type, in one request; a type that is named twice is there once."""
    body = ask(client, embedding_type=["float", "binary", "float"])
    (row,) = rows(body)
    assert row == {"float": rows(ask(client))[0], "binary": rows(ask(client, encoding_format="binary"))[0]}
    assert body["encoding_format"] == ["float", "binary"]
    (encoded,) = rows(ask(client, embedding_type=["int8", "ubinary", "base64"]))
    assert {name: len(base64.b64decode(value)) for name, value in encoded.items()} == {"int8": 12, "ubinary": 2}


def test_a_list_of_one_is_that_one(client):
    """["int8"] is answered as "int8", ["base64"] as "base64"."""
    for kind in ("int8", "base64"):
        assert ask(client, encoding_format=[kind]) == ask(client, encoding_format=kind)


def test_shortened_first_then_encoded(client, fake):
    """With `dimensions` the vector is shortened and has length one again before it is encoded; five bits fill a byte."""
    fake._shortening = Rotation(np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0].astype(np.float32))
    (unit,) = np.array(rows(ask(client, dimensions=5)))
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    for kind in INTEGERS:
        assert rows(ask(client, dimensions=5, encoding_format=kind)) == [expected(kind, unit)]
    assert len(rows(ask(client, dimensions=5, encoding_format="binary"))[0]) == 1


def test_the_official_client_gets_integers_although_it_asks_for_base64(client):
    """OpenAI's client sends encoding_format base64 unasked and would read its bytes as float32; `embedding_type` wins."""
    for unasked in ("float", "base64"):
        sent = ask(client, encoding_format=unasked, embedding_type="int8")
        assert sent == ask(client, encoding_format="int8")
    assert openai.types.CreateEmbeddingResponse.model_validate(sent).data[0].embedding == rows(sent)[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "xml"}, "encoding_format"),
        ({"encoding_format": []}, "encoding_format"),
        ({"encoding_format": ["int8", "xml"]}, "encoding_format[1]"),
        ({"embedding_type": ["float", 3]}, "embedding_type[1]"),
        ({"embedding_type": "INT8"}, "embedding_type"),
        ({"encoding_format": "int8", "embedding_type": "binary"}, "embedding_type"),
    ],
)
def test_a_wrong_encoding_is_named(client, fake, fields, param):
    """A 400 that names the field, before any tower runs; two fields that contradict each other are one, too."""
    assert ask(client, status=400, **fields)["error"]["param"] == param
    assert fake.runs == []


def test_a_wrong_word_in_a_list_is_told_the_right_ones(client):
    """The sentence lists every allowed value once."""
    message = ask(client, status=400, embedding_type=["int4"])["error"]["message"]
    assert message == "Invalid enum value 'int4'; allowed: float, base64, int8, uint8, binary, ubinary"


def test_a_bad_input_has_no_vector_in_any_encoding(client):
    """Under on_error the neighbours keep their integers."""
    first, bad, last = rows(ask(client, ["a cat", "", "a dog"], encoding_format="ubinary", on_error="null"))
    assert bad is None
    assert [first, last] == rows(ask(client, ["a cat", "a dog"], encoding_format="ubinary"))


def test_uploads_are_encoded_alike(client):
    """The form takes both fields, repeated for several."""
    fields: list[Field] = [("file", ("a.png", png())), ("input", "a cat")]
    answer = client.simulate_post("/v1/embeddings/image", **form([*fields, ("encoding_format", "int8")]))
    assert answer.json["encoding_format"] == "int8"
    assert rows(answer.json)[1] == rows(ask(client, encoding_format="int8"))[0]
    both: list[Field] = [*fields, ("embedding_type", "uint8"), ("embedding_type", "base64")]
    encoded = rows(client.simulate_post("/v1/embeddings/image", **form(both)).json)[1]
    assert list(base64.b64decode(encoded)) == rows(ask(client, encoding_format="uint8"))[0]
