"""llama.cpp's API: every shape that its clients send, its errors, and Frigate's own calls in their order."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import falcon.testing
import httpx
import numpy as np
import pytest
from PIL import Image

from siglip_edge.server.faces.llamacpp.errors import render_error
from siglip_edge.server.faces.llamacpp.normalization import normalized
from siglip_edge.server.faces.llamacpp.schemas import MEDIA_MARKER
from siglip_edge.server.http.errors import Problem
from tests.server.conftest import data_uri, loading_app, png, wait_until
from tests.tiny_model import write_model

RERANK_PATHS = ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking")
Client = falcon.testing.TestClient


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def picture(data: bytes, words: str = "") -> dict[str, Any]:
    return {"prompt_string": f"{words}{MEDIA_MARKER}\n", "multimodal_data": [b64(data)]}


def embed(client: Client, content: Any, path: str = "/embeddings", **fields: Any) -> list[list[float]]:
    """The vectors; asserts llama.cpp's shape: a bare list, in order, one row each."""
    answer = client.simulate_post(path, json={"content": content, **fields})
    assert answer.status_code == 200, answer.text
    assert [item["index"] for item in answer.json] == list(range(len(answer.json)))
    assert all(set(item) == {"index", "embedding"} and len(item["embedding"]) == 1 for item in answer.json)
    return [item["embedding"][0] for item in answer.json]


def openai(client: Client, given: Any) -> list[list[float]]:
    answer = client.simulate_post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 200, answer.text
    return [item["embedding"] for item in answer.json["data"]]


def error(answer: Any, status: int = 400) -> str:
    """The sentence; asserts llama.cpp's shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"code", "message", "type"}
    assert answer.json["error"]["code"] == status
    return str(answer.json["error"]["message"])


class TestEmbeddings:
    """`POST /embedding`, and `POST /embeddings` with `content`."""

    @pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
    def test_both_spellings_give_the_bits_of_v1_embeddings(self, client, path):
        """A text, an image, and both together: the same numbers as OpenAI's shape answers."""
        theirs = [
            {"prompt_string": "a cat"},
            picture(png()),
            "a dog",
            data_uri(png("blue")),
            {"prompt_string": f"a red {MEDIA_MARKER} rectangle", "multimodal_data": [b64(png())]},
        ]
        ours = [
            "a cat",
            data_uri(png()),
            "a dog",
            data_uri(png("blue")),
            {"text": "a red rectangle", "image": data_uri(png())},
        ]
        assert embed(client, theirs, path) == openai(client, ours)

    @pytest.mark.parametrize("content", ["a cat", ["a cat"], {"prompt_string": "a cat"}, [{"prompt_string": "a cat"}]])
    def test_one_text_in_every_shape(self, client, content):
        """A string, a prompt, or a list with one of them is one embedding."""
        assert embed(client, content) == openai(client, "a cat")

    def test_input_is_another_name_on_embedding_only(self, client):
        """/embedding takes `input` as another name of `content`; /embeddings with `input` is OpenAI's, whatever other keys it has."""
        answer = client.simulate_post("/embedding", json={"input": ["a cat"]})
        assert answer.json == [{"index": 0, "embedding": openai(client, "a cat")}]
        for extra in ({}, {"content": "a dog"}):
            answer = client.simulate_post("/embeddings", json={"input": "a cat", **extra})
            assert answer.json["object"] == "list"
            assert answer.json["data"][0]["embedding"] == openai(client, "a cat")[0]

    def test_an_image_without_words_is_the_image_alone(self, client):
        """Spaces and line ends around the marker are no text."""
        for prompt in (MEDIA_MARKER, f" \n{MEDIA_MARKER}\n"):
            item = {"prompt_string": prompt, "multimodal_data": [b64(png())]}
            assert embed(client, [item]) == openai(client, data_uri(png()))

    @pytest.mark.parametrize("kind", [-1, 2])
    def test_unit_length_is_what_vectors_have(self, client, kind):
        """-1 (as they are) and 2 (euclidean) change no bit."""
        assert embed(client, "a cat", embd_normalize=kind) == openai(client, "a cat")

    def test_other_norms_are_llamacpps(self, client):
        """0: the largest component is 32760; 1: absolute values sum to 1; 3: their cubes do. Directions stay."""
        unit = np.array(openai(client, "a cat")[0])
        scaled = {kind: np.array(embed(client, "a cat", embd_normalize=kind)[0]) for kind in (0, 1, 3)}
        assert np.abs(scaled[0]).max() == pytest.approx(32760, rel=1e-6)
        assert np.abs(scaled[1]).sum() == pytest.approx(1, rel=1e-6)
        assert (np.abs(scaled[3]) ** 3).sum() == pytest.approx(1, rel=1e-6)
        for vector in scaled.values():
            assert vector / np.linalg.norm(vector) == pytest.approx(unit, abs=1e-6)

    def test_high_norms_do_not_underflow(self):
        """The 1000-norm of a vector is nearly its largest component, though every power of it is zero."""
        vector = np.array([0.6, -0.8, 0.0], np.float32)
        assert normalized(vector, 1000) == pytest.approx([0.75, -1, 0], abs=1e-6)

    def test_the_answer_names_its_space_and_another_space_is_409(self, client):
        """X-Embedding-Space holds here too."""
        answer = client.simulate_post("/embeddings", json={"content": "a cat"})
        assert answer.headers["X-Embedding-Space"] == "tiny-space"
        other = client.simulate_post("/embeddings", json={"content": "a"}, headers={"X-Embedding-Space": "other"})
        error(other, 409)


class TestBadContent:
    """Each refusal has its sentence."""

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ([picture(png()) | {"multimodal_data": []}], "1 times the marker <__media__>, multimodal_data 0 images"),
            ([{"prompt_string": "a", "multimodal_data": [b64(png())]}], "0 times the marker"),
            ([{"prompt_string": MEDIA_MARKER * 2, "multimodal_data": [b64(png())] * 2}], "2 images in a prompt"),
            ([{"prompt_string": MEDIA_MARKER, "multimodal_data": ["bm90IGFuIGltYWdl"]}], "not an image"),
            ([picture(png()[:40])], "cannot be decoded"),
            ([picture(png(), "https://example.org/a.png ")], "image URLs are not fetched here"),
            ([picture(png(), f"{data_uri(png())} ")], "is an image itself"),
            ([{"prompt_string": "a", "image": "x"}], "unknown key `image`"),
            ([{"text": "a"}], "unknown key `text`"),
            (["a", {"prompt_string": ""}], "content[1].prompt_string: the text is empty"),
            ([], "the list is empty"),
            ([1, 2, 3], "token-id arrays are refused"),
            ([[1, 2], {"prompt_string": "a"}], "content[0]: token-id arrays are refused"),
            (["https://example.org/a.png"], "image URLs are not fetched here"),
            ([{"prompt_string": "data:image/png;base64,AAAA"}], "cannot be decoded"),
        ],
    )
    def test_what_is_wrong_is_named(self, client, fake, content, sentence):
        """400 in llama.cpp's shape; nothing that is meant as an image is embedded as text, and nothing runs."""
        answer = client.simulate_post("/embeddings", json={"content": content})
        message = error(answer)
        assert sentence in message
        assert message.startswith("content")
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert not fake.runs

    def test_limits_hold(self, client_of):
        """As on every route: inputs per request, characters, bytes of a body."""
        client = client_of(MAX_BATCH_SIZE="2", MAX_TEXT_CHARS="5", MAX_BODY_BYTES="1000")
        for path in ("/embedding", "/embeddings"):
            prompt = {"prompt_string": "a"}
            assert "at most 2" in error(client.simulate_post(path, json={"content": [prompt] * 3}))
            assert "at most 5" in error(client.simulate_post(path, json={"content": [{"prompt_string": "a" * 6}]}))
        too_large = {"content": "a" * 1000}
        error(client.simulate_post("/embedding", json=too_large), 413)
        assert client.simulate_post("/embeddings", json=too_large).status_code == 413  # before anybody can know whose

    def test_neither_name_and_both_names(self, client):
        """A body with neither key gets llama.cpp's sentence; a body with both is refused, because one would be ignored."""
        assert error(client.simulate_post("/embedding", json={})) == '"input" or "content" must be provided'
        both = client.simulate_post("/embedding", json={"input": "a", "content": "b"})
        assert "send only one" in error(both)

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"nul", b'{"content": "\\ud800"}', b"\xff"])
    def test_broken_json_is_400(self, client, body):
        """Broken JSON gets llama.cpp's shape on /embedding, and OpenAI's on /embeddings, where its face is unknown."""
        headers = {"Content-Type": "application/json"}
        error(client.simulate_post("/embedding", body=body, headers=headers))
        assert client.simulate_post("/embeddings", body=body, headers=headers).status_code == 400

    def test_token_ids_can_be_allowed(self, client_of):
        """ACCEPT_TOKEN_IDS: a list of numbers is one text, as in OpenAI's shape."""
        client = client_of(ACCEPT_TOKEN_IDS="true")
        assert embed(client, [97, 98]) == openai(client, [97, 98])


LINK = "https://x.org/page"


@pytest.mark.parametrize(
    ("path", "body", "remedied"),
    [
        ("/embedding", {"content": LINK}, {"content": LINK, "modality": "text"}),
        ("/embeddings", {"content": [LINK]}, {"content": [LINK], "modality": "text"}),
        (
            "/embedding",
            {"content": {"prompt_string": LINK}},
            {"content": {"prompt_string": LINK}, "modality": "text"},
        ),
        ("/rerank", {"query": "a", "documents": [LINK]}, {"query": "a", "documents": [{"text": LINK}]}),
        ("/rerank", {"query": LINK, "texts": ["a"]}, {"query": LINK, "texts": ["a"], "modality": "text"}),
    ],
)
def test_the_remedy_for_a_link_is_one_that_the_route_takes(client, path, body, remedied):
    """An object is offered where objects are taken; `modality` everywhere."""
    message = error(client.simulate_post(path, json=body))
    assert '"modality": "text"' in message
    assert ('{"text": "…"}' in message) is (path == "/rerank")
    assert client.simulate_post(path, json=remedied).status_code == 200


def test_the_image_of_a_prompt_is_not_offered_as_a_text(client):
    """`multimodal_data` takes images alone."""
    prompt = {"prompt_string": "<__media__>", "multimodal_data": ["a cat"]}
    assert error(client.simulate_post("/embedding", json={"content": prompt})) == (
        "content.multimodal_data[0]: not an image but a text or a file name: "
        "send a data URI or base64 (paths need IMAGE_ROOT)"
    )


def test_an_empty_list_is_named_once(client):
    assert error(client.simulate_post("/embedding", json={"content": []})) == "content: the list is empty"


class TestRerank:
    """`POST /rerank` and its aliases."""

    QUERY = data_uri(png())
    DOCUMENTS = ("a cat", "a dog", data_uri(png("blue")), "a red dot")

    def rank(self, client: Client) -> list[dict[str, Any]]:
        body = {"query": self.QUERY, "candidates": list(self.DOCUMENTS)}
        rankings: list[dict[str, Any]] = client.simulate_post("/v1/rank", json=body).json["results"][0]["rankings"]
        return rankings

    @pytest.mark.parametrize("path", RERANK_PATHS)
    def test_documents_are_ranked_as_v1_rank_does(self, client, path):
        """Every alias: best first, the calibrated probability as relevance_score, usage and model."""
        answer = client.simulate_post(path, json={"query": self.QUERY, "documents": self.DOCUMENTS})
        assert set(answer.json) == {"model", "object", "usage", "results"}
        assert (answer.json["model"], answer.json["object"]) == ("tiny", "list")
        assert answer.json["usage"]["prompt_tokens"] == answer.json["usage"]["total_tokens"] > 0
        expected = [{"index": one["index"], "relevance_score": one["score"]} for one in self.rank(client)]
        assert answer.json["results"] == expected

    @pytest.mark.parametrize("path", RERANK_PATHS)
    def test_texts_are_answered_as_tei_does(self, client, path):
        """`texts` instead of `documents`: a bare list of index and score."""
        answer = client.simulate_post(path, json={"query": self.QUERY, "texts": self.DOCUMENTS})
        assert answer.json == [{"index": one["index"], "score": one["score"]} for one in self.rank(client)]

    def test_top_n_and_repeated_documents(self, client):
        """top_n cuts; return_documents and return_text repeat what was sent, an image shortened."""
        best = self.rank(client)[0]
        body = {"query": self.QUERY, "top_n": 1}
        theirs = client.simulate_post("/rerank", json={**body, "documents": self.DOCUMENTS, "return_documents": True})
        (result,) = theirs.json["results"]
        assert result["document"] == {"text": best["candidate"]}
        teis = client.simulate_post("/rerank", json={**body, "texts": self.DOCUMENTS, "return_text": True})
        assert teis.json == [{"index": best["index"], "score": best["score"], "text": best["candidate"]}]
        everything = client.simulate_post("/rerank", json={**body, "top_n": 9, "texts": self.DOCUMENTS})
        assert len(everything.json) == 4

    @pytest.mark.parametrize("path", RERANK_PATHS)
    def test_objects_are_ranked_as_their_strings(self, client, path):
        """`{"text"}` and `{"image"}`, as Cohere's and Jina's clients send documents, and as the remedies say."""
        objects = [{"image" if text[:5] == "data:" else "text": text} for text in self.DOCUMENTS]
        for field in ("documents", "texts"):
            strings = client.simulate_post(path, json={"query": self.QUERY, field: self.DOCUMENTS}).json
            assert client.simulate_post(path, json={"query": {"image": self.QUERY}, field: objects}).json == strings
        body = {"query": "a", "documents": [{"text": "https://x.org/page"}], "return_documents": True}
        (result,) = client.simulate_post(path, json=body).json["results"]
        assert result["document"] == {"text": "https://x.org/page"}

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ({"documents": ["a"]}, '"query" must be provided'),
            ({"query": "a"}, '"documents" must be a non-empty string array'),
            ({"query": "a", "documents": []}, '"documents" must be a non-empty string array'),
            ({"query": "a", "texts": []}, '"texts" must be a non-empty string array'),
            ({"query": "a", "documents": ["b"], "texts": ["b"]}, "send only one"),
            ({"query": "a", "documents": ["b", 1]}, "documents[1]: a bare number is no input"),
            ({"query": "a", "documents": "b"}, '"documents" must be a non-empty string array'),
            ({"query": "a", "documents": [{"title": "b"}]}, "documents[0].title: unknown key `title`; allowed: "),
            ({"query": ["a", "b"], "documents": ["b"]}, "query: an input is a string, an object"),
            ({"query": "", "documents": ["b"]}, "query: the text is empty"),
            ({"query": "a", "documents": ["b", "data:image/png;base64,AAAA"]}, "documents[1]: "),
            ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n: "),
        ],
    )
    def test_bad_requests_are_named(self, client, body, sentence):
        """400 in llama.cpp's shape, with its own sentences where it has them."""
        assert sentence in error(client.simulate_post("/rerank", json=body))


class TestProps:
    """`GET /props`."""

    @pytest.mark.parametrize("query", ["", "model=tiny"])
    def test_the_model_sees_and_names_its_marker(self, client, query):
        """What clients read before they send an image; no path of the server is told."""
        props = client.simulate_get("/props", query_string=query).json
        assert props["modalities"] == {"vision": True, "audio": False}
        assert props["media_marker"] == "<__media__>"
        assert props["default_generation_settings"]["n_ctx"] > 0
        assert props["model_path"] == "tiny"
        assert props["is_sleeping"] is False

    def test_an_unknown_model_is_404(self, client):
        """Every route answers an unknown model with not_found_error."""
        answers = [
            client.simulate_get("/props", query_string="model=nobody"),
            client.simulate_post("/embedding", json={"content": "a", "model": "nobody"}),
            client.simulate_post("/embeddings", json={"content": "a", "model": "nobody"}),
            client.simulate_post("/rerank", json={"query": "a", "documents": ["b"], "model": "nobody"}),
        ]
        for answer in answers:
            assert "no model 'nobody' here; served: tiny" in error(answer, 404)
            assert answer.json["error"]["type"] == "not_found_error"

    def test_a_server_of_texts_alone_sees_nothing(self, tiny_dir):
        """With TOWERS=text, vision is false, and an image is refused with a sentence."""
        client = Client(loading_app([], MODEL=str(tiny_dir), TOWERS="text"))
        wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
        assert client.simulate_get("/props").json["modalities"]["vision"] is False
        answer = client.simulate_post("/embeddings", json={"content": [picture(png())]})
        assert "model tiny embeds texts only here (TOWERS), no images" in error(answer)


class TestErrors:
    """llama.cpp's error body on its own paths."""

    def test_every_status_has_its_type(self):
        """Types are the words of llama.cpp's server, where it has a word."""
        types = {
            status: render_error(Problem(status, "a sentence")).error.type
            for status in (400, 401, 403, 404, 405, 409, 413, 415, 429, 500, 501, 503, 504)
        }
        assert types == {
            **dict.fromkeys((400, 405, 409, 413, 415), "invalid_request_error"),
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            429: "rate_limit_error",
            500: "server_error",
            501: "not_supported_error",
            503: "unavailable_error",
            504: "unavailable_error",
        }

    def test_a_key_is_asked_for(self, client_of):
        """401 before anything is read, and in the path's own shape; with the key: the answer."""
        client = client_of(API_KEYS="first")
        answer = client.simulate_post("/embedding", json={"content": "a"})
        error(answer, 401)
        assert answer.json["error"]["type"] == "authentication_error"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        error(client.simulate_get("/props"), 401)
        headers = {"Authorization": "Bearer first"}
        assert client.simulate_post("/embedding", json={"content": "a"}, headers=headers).status_code == 200

    def test_the_frameworks_own_errors(self, client):
        """405 and 415 on llama.cpp's paths have its shape; 404 outside every face has OpenAI's."""
        error(client.simulate_get("/embedding"), 405)
        error(client.simulate_post("/props"), 405)
        error(client.simulate_post("/rerank", body="a", headers={"Content-Type": "text/plain"}), 415)
        assert set(client.simulate_get("/tokenize").json["error"]) == {"message", "type", "param", "code"}

    def test_a_failed_run_is_a_500_that_tells_nothing(self, client, fake):
        """A fixed sentence with the request id."""
        fake.failure = RuntimeError("the cause")
        for path in ("/embedding", "/embeddings"):
            answer = client.simulate_post(path, json={"content": "a"}, headers={"X-Request-ID": "abc"})
            message = error(answer, 500)
            assert "abc" in message
            assert "cause" not in message.replace("has the cause under", "")
            assert answer.json["error"]["type"] == "server_error"

    def test_a_full_queue_is_429_with_retry_after(self, client_of, fake):
        """While one row runs and one waits, the next request gets Retry-After."""
        client = client_of(MAX_QUEUE_SIZE="1", MAX_BATCH_SIZE="1")
        fake.gate.clear()
        statuses: list[int] = []

        def ask(text: str) -> None:
            statuses.append(client.simulate_post("/embedding", json={"content": text}).status_code)

        waiting = [threading.Thread(target=ask, args=(text,)) for text in ("one", "two")]
        waiting[0].start()
        assert fake.entered.acquire(timeout=30)
        waiting[1].start()
        wait_until(lambda: client.simulate_get("/health").json["queue_size"] == 1)
        refused = client.simulate_post("/embedding", json={"content": "three"})
        error(refused, 429)
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["Retry-After"]) >= 1
        fake.gate.set()
        for thread in waiting:
            thread.join(30)
        assert statuses == [200, 200]

    def test_a_model_that_is_not_there_is_503(self, tmp_path):
        """unavailable_error with Retry-After; /props still says what the model takes."""
        directory = write_model(tmp_path / "broken")
        (directory / "vocabulary_int8.bin").write_bytes(b"short")
        told: list[str] = []
        client = Client(loading_app(told, MODEL=str(directory)))
        wait_until(lambda: bool(told))
        answer = client.simulate_post("/embedding", json={"content": "a"})
        error(answer, 503)
        assert answer.json["error"]["type"] == "unavailable_error"
        assert int(answer.headers["Retry-After"]) >= 1
        assert client.simulate_get("/props").status_code == 200

    def test_what_is_counted(self, client):
        """Requests are counted per face; on a shared path, the body decides the face."""
        client.simulate_post("/embeddings", json={"content": "a cat"})
        client.simulate_post("/embeddings", json={"input": "a cat"})
        client.simulate_get("/nowhere")
        counted = client.simulate_get("/metrics").text
        for face in ("llamacpp", "openai"):
            assert f'http_requests_total{{face="{face}",method="POST",route="/embeddings",status="200"}} 1.0' in counted
        assert 'http_requests_total{face="(none)",method="GET",route="(no route)",status="404"} 1.0' in counted


class Frigate:
    """The calls of Frigate 0.18's llama.cpp provider, in its order; `base_url` as its user writes it."""

    def __init__(self, base_url: str, model: str) -> None:
        self.base_url = base_url.rstrip("/").replace("/v1", "")
        self.model = model
        self.http = httpx.Client(timeout=60)
        names = {
            name for card in self._get("/v1/models")["data"] for name in (card.get("id"), *card.get("aliases", []))
        }
        self.knows_its_model = model in names
        props = self._get("/props", model=model)
        self.sees = props["modalities"]["vision"]
        self.marker = props["media_marker"]

    def embed(self, texts: list[str], images: list[bytes]) -> list[np.ndarray]:
        """-> one vector per text, then one per image. Frigate reads a list or `data`, and averages rows."""
        content: list[dict[str, Any]] = [{"prompt_string": text} for text in texts]
        content += [{"prompt_string": f"{self.marker}\n", "multimodal_data": [b64(image)]} for image in images]
        answer = self.http.post(f"{self.base_url}/embeddings", json={"model": self.model, "content": content})
        items = answer.raise_for_status().json()
        items = items.get("data", items) if isinstance(items, dict) else items
        vectors = [np.array(item["embedding"], np.float32) for item in items]
        return [vector.mean(axis=0) if vector.ndim > 1 else vector for vector in vectors]

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(f"{self.base_url}{path}", params=query).raise_for_status().json()
        return answer


@pytest.fixture(scope="module")
def frigate(start: Callable[..., Any], model_dir: Any) -> Iterator[Callable[[str], Frigate]]:
    """`frigate(suffix)` -> the client of a server of the shipped model, with `suffix` after its address."""
    server = start(MODEL=str(model_dir))
    clients: list[Frigate] = []

    def connect(suffix: str) -> Frigate:
        clients.append(Frigate(f"{server.url}{suffix}", "emoji-siglip"))
        return clients[-1]

    yield connect
    for client in clients:
        client.http.close()


def jpeg(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (175, 175), color).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_frigate_takes_this_server_for_its_embedder(frigate, suffix):
    """Its calls in order, on a real server: the model is known, it sees, and its vectors are those of /v1/embeddings."""
    client = frigate(suffix)
    assert client.knows_its_model
    assert client.sees
    texts, images = ["a red car", "a person with a dog"], [jpeg("red"), jpeg("blue")]
    vectors = client.embed(texts, images)
    given = [*texts, *(data_uri(image, "jpeg") for image in images)]
    answer = client.http.post(f"{client.base_url}/v1/embeddings", json={"input": given}).raise_for_status().json()
    assert np.array_equal(np.array(vectors), np.array([item["embedding"] for item in answer["data"]], np.float32))
    assert np.array_equal(client.embed(texts, []), vectors[:2])
