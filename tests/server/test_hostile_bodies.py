"""Thousands of damaged requests to every POST route: never a 5xx, and every refusal has the shape of its face."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.server.conftest import data_uri, png

PICTURE = data_uri(png())
STRINGS = [
    *("a cat", "", " ", "\0", "\ud800", "a\udc00b", "\U0001f408", "cat.jpg", "file:///etc/passwd", "https://[::1", "http://", "data:", "data:,"),
    *("data:image/png;base64,", "data:;base64,!!!", PICTURE, PICTURE[:60], PICTURE.partition(",")[2], "/9j/", "iVBORw0KGgo", "<__media__>"),
    *("x" * 5000, "x" * 40_000, "\n" * 100, "\ufeff", "tiny", "float", "base64", "text", "image", "user", "{}", "null", "%", "%ff", "a\x85b", "٣"),
]  # fmt: skip
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 10**6, 10**30, -(10**30), 0.5, 1e308, -0.0, [], {}, [[]], [{}], [None], ["a", "b"], [1, 2], [[1, 2]]),
    *([["a"]], {"text": "a"}, {"image": PICTURE}, {"content": ["a", PICTURE]}, {"url": PICTURE}, {"a": 1}, {"": ""}, ["a"] * 300, [10**30], [-1]),
]  # fmt: skip
PART = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}}
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/embeddings": [
        {"input": ["a cat", PICTURE, {"text": "a"}, {"content": [PART, {"type": "text", "text": "a"}]}], "dimensions": 12},
        {"input": "a cat", "encoding_format": "base64", "modality": "text", "on_error": "null", "expect_space": "tiny-space"},
        {"messages": [{"role": "user", "content": [PART, "a"]}], "user": "me", "model": "tiny", "embedding_type": ["int8"]},
    ],
    "/v1/rank": [{"query": ["a", PICTURE], "candidates": ["b", {"image": PICTURE}], "top_n": 1, "return_scores": True}],
    "/v1/classify": [{"image": PICTURE, "labels": ["cat", "dog"], "template": "a {}", "multi_label": False}],
    "/evaluator/v1/evaluation/single": [{"image": PICTURE, "text": "a"}, {"image_input": PICTURE, "text_prompt": "a", "model_config_name": "tiny"}],
    "/evaluator/v1/evaluation/batch": [
        {"items": [{"image": PICTURE, "text": "a"}], "on_error": "null"},
        {"evaluations": [{"image_input": PICTURE, "text_prompt": "a"}], "batch_size": 8, "show_progress": False},
    ],
    "/embedding": [{"content": [{"prompt_string": "a <__media__>", "multimodal_data": [PICTURE]}, "b"], "embd_normalize": 2}],
    "/embeddings": [{"content": "a", "model": "tiny"}, {"input": ["a"]}],
    "/rerank": [{"query": "a", "documents": ["b", PICTURE], "top_n": 1, "return_documents": True}],
    "/v1/reranking": [{"query": "a", "texts": ["b"], "return_text": True}],
}  # fmt: skip
FORMS = {
    "/v1/embeddings/image": [("file", png()), ("input", b"a cat"), ("dimensions", b"12"), ("model", b"tiny")],
    "/v1/classify/image": [("file", png()), ("labels", b"cat,dog"), ("template", b"a {}"), ("multi_label", b"false")],
}
HEADERS = [
    *(b"Content-Type: application/json", b"Content-Type: image/png", b"Content-Type: text/plain; charset=utf-16", b"Content-Type: \xff"),
    *(b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable", b"Content-Length: 5", b"Content-Length: x"),
    *(b"X: \xff", b"no colon", b": no name", b" continued", b"Content-Disposition: attachment", b"Content-Type: text/plain; charset=utf-7"),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a JSON value, as the keys that lead to it."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(value: Any, rng: random.Random) -> Any:
    """A copy with another value, key or type in one place."""
    root = json.loads(json.dumps({"": value}))
    *folders, key = ("", *rng.choice(list(places(value))))
    inside = root
    for folder in folders:
        inside = inside[folder]
    action = rng.randrange(5)
    if action == 0 and key != "":
        del inside[key]
    elif action == 1:
        inside[key] = [inside[key]] * rng.choice([1, 2, 9])
    elif action == 2 and isinstance(inside[key], dict):
        inside[key][rng.choice([*STRINGS[:20], "text", "image", "content", "type", "images"])] = rng.choice(
            VALUES + STRINGS
        )
    else:
        inside[key] = rng.choice(VALUES + STRINGS)
    return root[""]


def damaged(body: bytes, rng: random.Random) -> bytes:
    """Bytes with a cut, a changed byte, a repeated piece, or in another encoding."""
    start, end = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return rng.choice(
        [
            lambda: body[:start],
            lambda: body[:start] + rng.randbytes(rng.randrange(4)) + body[end:],
            lambda: body[:start] + bytes([rng.choice(b'\0\\"{}[],:\xff\xef\xed0n')]) + body[start + 1 :],
            lambda: body[:end] + body[start:],
            lambda: b"\xef\xbb\xbf" + body,
            lambda: body.decode(errors="replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-7"]), "replace"),
            lambda: body.replace(b"\\ud800", b"\xed\xa0\x80").replace(b"1", b"NaN"),
        ]
    )()  # fmt: skip


def hostile_json(examples: list[dict[str, Any]], rng: random.Random) -> bytes:
    value = rng.choice(examples)
    for _ in range(rng.choice([1, 1, 2, 4])):
        value = changed(value, rng)
    body = json.dumps(value, ensure_ascii=rng.random() < 0.8).encode(errors="surrogatepass")
    return damaged(body, rng) if rng.random() < 0.3 else body


def hostile_form(fields: list[tuple[str, bytes]], rng: random.Random) -> bytes:
    parts = [form_part(name, value, rng) for name, value in rng.choices(fields, k=rng.randrange(6))]
    body = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n"
    return damaged(body, rng) if rng.random() < 0.4 else body


def form_part(name: str, value: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        name = rng.choice(["photo", "file[]", "images", "", "input", "\ud800", "labels"])
    if rng.random() < 0.5:
        value = rng.choice(
            [
                json.dumps(rng.choice(VALUES)).encode(),
                rng.choice(STRINGS).encode(errors="surrogatepass"),
                rng.randbytes(9),
            ]
        )
    filename = rng.choice(
        ["", "", '; filename="a.png"', '; filename=""', "; filename*=UTF-8''%ff", '; filename="\xff"', "; filename*=x"]
    )
    disposition = f'Content-Disposition: form-data; name="{name}"{filename}'.encode("latin-1", "replace")
    extra = rng.choices(HEADERS, k=rng.choice([0, 0, 1, 2]))
    return b"\r\n".join([disposition, *extra]) + b"\r\n\r\n" + value


@pytest.mark.parametrize("path", [*BODIES, *FORMS])
@pytest.mark.parametrize(
    "environ",
    [{}, {"ACCEPT_TOKEN_IDS": "true", "IMAGE_ROOT": "/proc/self", "ALLOW_IMAGE_URLS": "true"}],
    ids=["defaults", "everything allowed"],
)
def test_no_body_makes_the_server_fail(client_of: Callable[..., Any], path, environ):
    """Hundreds of damaged bodies per route: 200 or a 4xx in the shape of the face, as JSON in UTF-8; one seed, one sequence."""
    client, rng = client_of(**environ), random.Random(path)
    media = "application/json" if path in BODIES else "multipart/form-data; boundary=edge"
    for _ in range(300):
        body = hostile_json(BODIES[path], rng) if path in BODIES else hostile_form(FORMS[path], rng)
        answer = client.simulate_post(path, body=body, headers={"Content-Type": media})
        assert answer.status_code < 500, body
        if answer.status_code != 200:
            error = answer.json["error"]
            assert set(error) in ({"message", "type", "param", "code"}, {"message", "type", "code"}), body
            assert error["message"]


@pytest.mark.parametrize("path", [*BODIES, *FORMS])
def test_the_bodies_reach_the_model_too(client, path):
    """The bodies that the damage starts from are good ones, so that the damage reaches every depth."""
    for body in BODIES.get(path, []):
        answer = client.simulate_post(path, json=body)
        assert answer.status_code == 200, answer.text
    for fields in [FORMS[path]] if path in FORMS else []:
        parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value for name, value in fields]
        whole = b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + b"--edge--\r\n"
        answer = client.simulate_post(path, body=whole, headers={"Content-Type": "multipart/form-data; boundary=edge"})
        assert answer.status_code == 200, answer.text
