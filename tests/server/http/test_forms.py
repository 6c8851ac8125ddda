"""Multipart forms as browsers, curl and old libraries write them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import pytest

from tests.server.conftest import data_uri, png

RED, BLUE = png("red"), png("blue")
FILE = 'form-data; name="file"; filename="a.png"'


def part(disposition: str | bytes, body: bytes | str, **headers: str) -> bytes:
    """A part of a form; `Content_Type="…"` becomes a header."""
    raw = disposition if isinstance(disposition, bytes) else disposition.encode()
    lines = [b"Content-Disposition: " + raw]
    lines += [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body.encode() if isinstance(body, str) else body)


def field(name: str, value: str | bytes, **headers: str) -> bytes:
    return part(f'form-data; name="{name}"', value, **headers)


def send(client, *parts: bytes, path="/v1/embeddings/image", status=200, boundary="edge") -> Any:
    body = b"".join(b"--edge\r\n" + one + b"\r\n" for one in parts) + b"--edge--\r\n"
    answer = client.simulate_post(
        path, body=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    assert answer.status_code == status, answer.text
    return answer.json


def classify(client, *parts: bytes, status=200) -> Any:
    return send(client, *parts, path="/v1/classify/image", status=status)


def embed(client, *inputs):
    answer = client.simulate_post("/v1/embeddings", json={"input": list(inputs)})
    assert answer.status_code == 200, answer.text
    return answer.json


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("base64", base64.b64encode(RED)),
        ("BASE64", base64.encodebytes(RED)),
        ("quoted-printable", binascii.b2a_qp(RED, istext=False)),
        ("binary", RED),
        ("8bit", RED),
    ],
)
def test_transfer_encodings_of_mail(client, encoding, body):
    """The file is the same whatever encoding its part has."""
    assert send(client, part(FILE, body, Content_Transfer_Encoding=encoding)) == embed(client, data_uri(RED))


def test_a_text_in_a_transfer_encoding(client):
    """Texts are decoded too, with their charset."""
    coded = field(
        "input",
        base64.b64encode("Käse".encode("latin-1")),
        Content_Type="text/plain; charset=iso-8859-1",
        Content_Transfer_Encoding="base64",
    )
    assert send(client, coded) == embed(client, "Käse")


@pytest.mark.parametrize(
    "disposition",
    [
        *(FILE, "form-data; name=file; filename=a.png", 'form-data; filename="a.png"; name="file"', 'form-data; name="file"'),
        *('form-data; name="file[]"; filename="a.png"', 'form-data; name="files"; filename="a.png"', 'form-data; name="image"; filename="a"'),
        *('form-data; name="images[]"; filename="a"', 'form-data; name="input"; filename="a.png"', 'FORM-DATA; NAME="file"; FILENAME="a.png"'),
    ],
)  # fmt: skip
def test_the_field_of_a_file(client, disposition):
    """Common names of the field are `file`; a part called `file` is a file without a file name too."""
    assert send(client, part(disposition, RED, Content_Type="image/png")) == embed(client, data_uri(RED))


def test_several_files_keep_their_order(client):
    """Files under several names and texts: files first, each in its order."""
    parts = [
        field("input", "a cat"),
        part('form-data; name="image"; filename="b"', BLUE),
        part(FILE, RED),
        field("input[]", "a dog"),
    ]
    assert send(client, *parts) == embed(client, data_uri(BLUE), data_uri(RED), "a cat", "a dog")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'filename="photo.png"', "photo.png"),
        ('filename="Käse 猫.png"'.encode(), "Käse 猫.png"),
        ('filename="K\xe4se.png"'.encode("latin-1"), "Käse.png"),
        (b"filename*=UTF-8''K%C3%A4se%20%E7%8C%AB.png", "Käse 猫.png"),
        (b"filename=\"x.png\"; filename*=utf-8''K%C3%A4se.png", "Käse.png"),
        (b"filename*=iso-8859-1'de'K%E4se.png", "Käse.png"),
        (b'filename="a%22b.png"', 'a"b.png'),
        (b'filename=""', ""),
        (b'filename="\xff\xfe\x00"', "\xff\xfe\x00"),
    ],
)
def test_file_names(client, raw, name):
    """UTF-8, Latin-1, RFC 5987 and none: the answer has the name as its user knows it."""
    answer = classify(client, part(b'form-data; name="file"; ' + raw, RED), field("labels", "cat,dog"))
    assert answer["filename"] == name


@pytest.mark.parametrize(
    "parts",
    [
        [field("labels", '["cat, small", "dog"]')],
        [field("labels", '["cat, small", "dog"]', Content_Type="application/json")],
        [field("labels", "cat, small"), field("labels", "dog")],
        [field("labels[]", "cat, small"), field("labels[]", "dog")],
        [field("labels", '"cat, small"', Content_Type="application/json"), field("labels", "dog")],
    ],
)
def test_labels_in_every_spelling(client, parts):
    """A JSON list, typed or not, and repeated fields keep a comma inside a label."""
    labels = {item["label"] for item in classify(client, part(FILE, RED), *parts)["classifications"]}
    assert labels == {"cat, small", "dog"}


def test_parts_that_are_typed_as_json(client):
    """Objects, lists and numbers are read as the JSON route reads them."""
    objects = json.dumps([{"text": "cat.jpg"}, {"content": ["a", data_uri(RED)]}])
    typed = [
        field("input", objects, Content_Type="application/json"),
        field("dimensions", "12", Content_Type="application/json; charset=utf-8"),
    ]
    assert send(client, *typed) == embed(client, {"text": "cat.jpg"}, {"content": ["a", data_uri(RED)]})


def test_inputs_written_as_json_need_no_type(client):
    """curl -F 'input=["a", "b"]' means a list, as for labels; other JSON is a text."""
    assert send(client, field("input", '["a", {"text": "b"}]')) == embed(client, "a", "b")
    assert send(client, field("input", ' {"text": "a cat"}')) == embed(client, "a cat")
    for text in ("[1, 2]", '{"name": "a cat"}', "[]", "{}", '["a"', "[" * 5000):
        assert send(client, field("input", text)) == embed(client, text)


def test_a_file_chooser_that_nobody_used_is_no_file(client):
    """Browsers send an empty part without a file name."""
    assert send(client, part('form-data; name="file"; filename=""', b""), field("input", "a cat")) == embed(
        client, "a cat"
    )


@pytest.mark.parametrize(
    ("parts", "param", "words"),
    [
        ([part('form-data; name="photo"; filename="a.png"', RED), field("input", "a")], "photo", "send files as `file`"),
        ([part(FILE, b"")], "file[0]", "empty"),
        ([part(FILE, "A!", Content_Transfer_Encoding="base64")], "file", "base64 cannot be decoded"),
        ([part(FILE, "A", Content_Transfer_Encoding="x-gzip")], "file", "base64 or quoted-printable"),
        ([field("input", "{", Content_Type="application/json")], "input", "not valid JSON"),
        ([field("input", b"\xff")], "input", "send UTF-8"),
        ([field("input", "a", Content_Type="text/plain; charset=nonsense")], "input", "no text in 'nonsense'"),
        ([field("input", "+2AA-", Content_Type="text/plain; charset=utf-7")], "input[0]", "half of a character"),
        ([field("input", '["a", 5]', Content_Type="application/json")], "input[1]", "a bare number"),
        ([field("input", '{"text": "a", "images": []}', Content_Type="application/json")], "input[0].images", "unknown key"),
        ([field("input", "photos/cat.jpg")], "input[0]", "IMAGE_ROOT"),
        ([field("input", "a"), field("dimensions", "12"), field("dimensions", "6")], "dimensions", "two values"),
        ([field("input", "a"), field("dimensions", b"\xff", Content_Type="image/png")], "dimensions", "Expected `int"),
        ([field("input", "a"), part('form-data; name="model"; filename="m"', "tiny")], "model", "Expected `str"),
        ([field("input", "a"), field("max_patches", "abc")], "max_patches", "'abc' is no whole number"),
        ([field("input", "a"), field("dimensions", "1.5")], "dimensions", "'1.5' is no whole number"),
        ([field("input", "")], "input[0]", "empty"),
        ([], "file", "nothing to embed"),
        ([part('form-data; filename="a.png"', RED)], None, "no name"),
        ([part("attachment", RED)], None, "cannot be read"),
        ([b"Content-Type: image/png\r\n\r\n" + RED], None, "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(client, parts, param, words):
    """Nothing that a form holds is dropped in silence, but for texts under names that this server does not know."""
    error = send(client, *parts, status=400)["error"]
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([part(FILE, RED), part(FILE, BLUE), field("labels", "a")], "file"),
        ([part(FILE, RED), field("labels", "[1, 2]")], "labels[0]"),
        ([part(FILE, RED), field("labels", ",")], "labels"),
        ([part(FILE, RED), field("labels", '["a", ""]')], "labels[1]"),
        ([part(FILE, RED)], "labels"),
    ],
)
def test_bad_classify_forms_are_named(client, parts, param):
    """One file, and labels that are texts."""
    assert classify(client, *parts, status=400)["error"]["param"] == param


@pytest.mark.parametrize("boundary", ["", '""', "x" * 71, "ä", "other", "edge2"])
def test_a_boundary_that_is_missing_or_wrong_is_400(client, boundary):
    """The sentence says what is wrong."""
    error = send(client, part(FILE, RED), status=400, boundary=boundary)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_form")


@pytest.mark.parametrize(
    ("boundary", "header"),
    [
        ("----=_Part_1.2", "----=_Part_1.2"),
        ("a b'()+_,-./:=?", '"a b\'()+_,-./:=?"'),
        ("--------------------------9051914041544843", "--------------------------9051914041544843; charset=utf-8"),
        ("x" * 70, "x" * 70),
    ],
)
def test_boundaries_as_libraries_write_them(client, boundary, header):
    """With and without quotation marks, with the characters that RFC 2046 allows, with a parameter after it."""
    body = f"--{boundary}\r\n".encode() + part(FILE, RED) + f"\r\n--{boundary}--".encode()
    media = f"multipart/form-data; boundary={header}"
    answer = client.simulate_post("/v1/embeddings/image", body=body, headers={"Content-Type": media})
    assert answer.status_code == 200, answer.text


def test_modality_holds_in_forms(client):
    """A path is a text when the form says so."""
    answer = send(client, field("input", "photos/cat.jpg"), field("modality", "text"))
    assert answer == embed(client, {"text": "photos/cat.jpg"})


def test_two_files_to_be_named_are_refused_in_words(client):
    """One picture is named per request."""
    error = classify(client, part(FILE, RED), part(FILE, BLUE), field("labels", "a,b"), status=400)["error"]
    assert (error["param"], error["message"]) == (
        "file",
        "2 files were sent; exactly one image is named among the labels",
    )
