"""Requests of the predecessors' documents, to a server of the default settings."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import openai

from tests.conformance.servers import PIZZA, Servers, cosine, picture, upload
from tests.server.conftest import ROOT

LABELS = ["airplane", "bicycle", "camera", "dog face", "guitar", "octopus", "pizza", "rocket", "umbrella", "violin"]


def text(servers: Servers) -> None:
    answer = servers.get().ok("/v1/embeddings", {"input": "a beautiful sunset"})
    assert abs(sum(value**2 for value in answer["data"][0]["embedding"]) - 1) < 1e-3


def openai_client(servers: Servers) -> None:
    """The official client, which asks for base64 unasked."""
    with openai.OpenAI(base_url=f"{servers.get().url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="emoji-siglip", input=["pizza", picture()])
    assert [len(item.embedding) for item in answer.data] == [192, 192]


def one_space(servers: Servers) -> None:
    """A picture is nearer to its name than to another."""
    image, name, other = servers.get().vectors(picture(), "pizza", "rocket")
    assert cosine(image, name) > cosine(image, other) + 0.2


def base64_image(servers: Servers) -> None:
    """As a data URI and bare: the same vector, and not that of a text."""
    bare = base64.b64encode(PIZZA.read_bytes()).decode()
    one, two = servers.get().vectors(picture(), bare)
    assert one == two


def base64_placeholder(servers: Servers) -> None:
    """The cut-off example of the documents is no picture: 400. A whole one is answered."""
    site = servers.get()
    site.error("/v1/embeddings", {"input": "data:image/jpeg;base64,/9j/4AAQ..."}, status=400)
    site.vectors(picture())


def many_images(servers: Servers) -> None:
    assert len(servers.get().vectors(*[picture()] * 64)) == 64


def batch(servers: Servers) -> None:
    assert len(servers.get().vectors("a cat", picture(), "a dog")) == 3


def upload_file(servers: Servers) -> None:
    """curl -F file=@…, and the same from Python."""
    site = servers.get()
    (item,) = site.ok("/v1/embeddings/image", **upload())["data"]
    assert cosine(item["embedding"], site.vectors(picture())[0]) > 0.9999


def upload_text(servers: Servers) -> None:
    """curl -F "input=a photo of a cat"."""
    site = servers.get()
    (item,) = site.ok("/v1/embeddings/image", files={"input": (None, "a photo of a cat")})["data"]
    assert cosine(item["embedding"], site.vectors("a photo of a cat")[0]) > 0.9999


def classify(servers: Servers) -> None:
    answer = servers.get().ok("/v1/classify", {"image": picture(), "labels": LABELS})
    assert answer["classifications"][0]["label"] == "pizza"


def classify_upload(servers: Servers) -> None:
    answer = servers.get().ok("/v1/classify/image", **upload(), data={"labels": ",".join(LABELS)})
    assert answer["classifications"][0]["label"] == "pizza"
    assert {"label", "score"} <= answer["classifications"][0].keys()


def rank(servers: Servers) -> None:
    body = {"query": picture(), "candidates": ["a rocket", "pizza", "a violin"]}
    rankings = servers.get().ok("/v1/rank", body)["results"][0]["rankings"]
    assert rankings[0]["candidate"] == "pizza"


def path_is_no_text(servers: Servers) -> None:
    """Without IMAGE_ROOT a file path is a 400, on every route."""
    site = servers.get()
    site.error("/v1/embeddings", {"input": ["image1.jpg"]}, status=400)
    site.error("/v1/embeddings", {"input": "/srv/pictures/a.png"}, status=400)
    site.error("/v1/rank", {"query": "a car", "candidates": ["image1.jpg", "image2.jpg"]}, status=400)


def models(servers: Servers) -> None:
    answer = servers.get().get("/v1/models").json()
    (model,) = answer["data"]
    assert (answer["object"], model["object"], model["id"]) == ("list", "model", "emoji-siglip")
    assert model["owned_by"]
    assert model["dimensions"] == 192


def truncates(servers: Servers) -> None:
    """A text that is too long is cut, and the answer says so."""
    (item,) = servers.get().ok("/v1/embeddings", {"input": "word " * 200})["data"]
    assert item["truncated"] is True


def any_size(servers: Servers) -> None:
    """Pictures of any size are resized to the model's."""
    photos = sorted((ROOT / "tests/photos").glob("*.jpg"))
    vectors = servers.get().vectors(*(_jpeg(path) for path in photos))
    assert {len(vector) for vector in vectors} == {192}


def multilingual(servers: Servers) -> None:
    image, chinese, other = servers.get().vectors(picture(), "披萨", "rocket")
    assert cosine(image, chinese) > cosine(image, other) + 0.2


def usage(servers: Servers) -> None:
    """Real tokens, without padding."""
    counted = servers.get().ok("/v1/embeddings", {"input": ["hello", "world"]})["usage"]
    assert 4 <= counted["prompt_tokens"] == counted["total_tokens"] < 20


def shape(servers: Servers) -> None:
    """The fields of OpenAI's answer."""
    answer = servers.get().ok("/v1/embeddings", {"input": ["hello", "world"]})
    assert answer["object"] == "list"
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["model"] == "emoji-siglip"


def encodings(servers: Servers) -> None:
    """float and base64 hold the same numbers; an unknown encoding is a 400."""
    site = servers.get()
    (plain,) = site.vectors("pizza")
    (item,) = site.ok("/v1/embeddings", {"input": "pizza", "encoding_format": "base64"})["data"]
    assert np.array_equal(np.frombuffer(base64.b64decode(item["embedding"]), "<f4"), np.array(plain, np.float32))
    site.error("/v1/embeddings", {"input": "pizza", "encoding_format": "xml"}, status=400)


def unknown_model(servers: Servers) -> None:
    """404, never the answer of another model."""
    text = servers.get().error("/v1/embeddings", {"input": "x", "model": "siglip2-large-patch16-512"}, status=404)
    assert "model_not_found" in text


def too_many_inputs(servers: Servers) -> None:
    servers.get().error("/v1/embeddings", {"input": ["x"] * 257}, status=400)


def too_long_text(servers: Servers) -> None:
    assert "text_too_long" in servers.get().error("/v1/embeddings", {"input": "x" * 131_073}, status=400)


def request_id(servers: Servers) -> None:
    site = servers.get()
    answer = site.post("/v1/embeddings", {"input": "x"}, headers={"X-Request-ID": "my-trace-1"})
    assert answer.headers["X-Request-ID"] == "my-trace-1"
    assert "my-trace-1" in site.log


def metrics(servers: Servers) -> None:
    site = servers.get()
    site.vectors("x")
    assert site.metric("http_requests_total") > 0
    assert "embedding_batch_rows" in site.get("/metrics").text


def cache(servers: Servers) -> None:
    """The second of two equal requests comes from the cache; the counters have their names, per model."""
    site = servers.get()
    text = "a text that no other check sends"
    site.vectors(text)
    before = site.metric("embedding_cache_hits_total")
    site.vectors(text)
    assert site.metric("embedding_cache_hits_total") == before + 1
    assert site.metric("embedding_cache_misses_total") > 0


def cache_per_model(servers: Servers) -> None:
    site = servers.get()
    site.vectors("one more text for the cache")
    assert site.metric('embedding_cache_misses_total{model="emoji-siglip"') > 0


def llamacpp_embedding(servers: Servers) -> None:
    answer = servers.get().ok("/embedding", {"content": "hello"})
    assert answer


def llamacpp_embeddings(servers: Servers) -> None:
    """OpenAI's shape for `input`, llama.cpp's for `content`."""
    site = servers.get()
    assert site.ok("/embeddings", {"input": "hello"})["object"] == "list"
    assert site.ok("/embeddings", {"content": "hello"})


def reranking(servers: Servers) -> None:
    body = {"query": "pizza", "documents": ["a violin", "pizza"]}
    results = servers.get().ok("/reranking", body)["results"]
    assert {item["index"] for item in results} == {0, 1}


def evaluation_single(servers: Servers) -> None:
    """The similarity service's own names of fields, with its answer."""
    body = {"image_input": picture(), "text_prompt": "pizza"}
    answer = servers.get().ok("/evaluator/v1/evaluation/single", body)
    assert "clip_score" in answer


def evaluation_batch(servers: Servers) -> None:
    """The similarity service's own names, with its totals."""
    items = [{"image_input": picture(), "text_prompt": name} for name in ("pizza", "rocket")]
    answer = servers.get().ok("/evaluator/v1/evaluation/batch", {"evaluations": items})
    assert answer["total_processed"] == 2
    assert answer["total_successful"] == 2
    assert len(answer["results"]) == 2


def evaluation_error(servers: Servers) -> None:
    """A picture that cannot be read fails its own item alone."""
    items = [{"image": picture(), "text": "pizza"}, {"image": "data:image/png;base64,AAAA", "text": "x"}]
    first, second = servers.get().ok("/evaluator/v1/evaluation/batch", {"items": items})["results"]
    assert first["score"] is not None
    assert second["error"]


def similarity_and_score(servers: Servers) -> None:
    """The cosine, and the model's calibrated probability."""
    body = {"image": picture(), "text": "pizza"}
    answer = servers.get().ok("/evaluator/v1/evaluation/single", body)
    assert 0.3 < answer["similarity"] < 1
    assert 0 < answer["score"] < 1


def page(servers: Servers, path: str) -> None:
    """A GET that is answered with 200."""
    answer = servers.get().get(path, follow_redirects=True)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"


def batch_script(servers: Servers) -> None:
    """What the batching guide's test script does: it reads the health block, then sends eight texts at once."""
    site = servers.get()
    block = site.health()["batch_processing"]
    assert {"enabled", "batch_size", "max_concurrent_batches", "cpu_count", "queue_size", "active_workers"} <= set(
        block
    )
    assert site.at_once([{"input": f"text number {n}"} for n in range(8)]) == [200] * 8


def _jpeg(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
