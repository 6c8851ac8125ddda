"""Every request that siglip2-api's README shows, by curl and by Python, as it stands there."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tests.predecessors.conftest import EMOJI

LARGE = "siglip2-large-patch16-512"
DIMENSIONS = 192


@pytest.fixture
def server(running, pictures, picture_host):
    """The shipped model by the name of the README's examples. Its settings allow the pictures' folder and their host."""
    return running(
        MODELS=f"{LARGE}={EMOJI}", IMAGE_ROOT=str(pictures), ALLOW_IMAGE_URLS="true", IMAGE_URL_HOSTS=picture_host
    )


def vectors(answer):
    return [np.array(item["embedding"]) for item in answer["data"]]


class TestModelsAndEmbeddings:
    def test_list_available_models(self, server, shell):
        """GET /v1/models has the id, OpenAI's object; LiteLLM asks for it."""
        answer = shell(server, "curl -s http://localhost:8001/v1/models")
        assert (answer["object"], answer["data"][0]["id"], answer["data"][0]["object"]) == ("list", LARGE, "model")
        assert answer["data"][0]["owned_by"]

    def test_the_request_with_the_name_of_the_model(self, server, python):
        """The body of "Generate Embeddings"."""
        example = f"""
import requests
response = requests.post("http://localhost:8001/v1/embeddings", json={{
  "input": "a photo of a cat",
  "model": "{LARGE}"
}})
"""
        answer = python(server, example, "response.json()")
        assert (answer["model"], len(answer["data"][0]["embedding"])) == (LARGE, DIMENSIONS)

    def test_text_embedding(self, server, shell):
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings" \\
  -H "Content-Type: application/json" \\
  -d '{"input": "a beautiful sunset"}'
"""
        answer = shell(server, example)
        assert [len(vector) for vector in vectors(answer)] == [DIMENSIONS]

    def test_image_url_embedding(self, server, shell, python):
        """The vector is the picture's, as an upload of the file gives it."""
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings" \\
  -H "Content-Type: application/json" \\
  -d '{"input": "https://example.com/image.jpg"}'
"""
        upload = """
import requests
response = requests.post("http://localhost:8001/v1/embeddings/image", files={"file": open("image.jpg", "rb")})
"""
        (fetched,), (uploaded,) = vectors(shell(server, example)), vectors(python(server, upload, "response.json()"))
        assert np.array_equal(fetched, uploaded)

    def test_multiple_inputs(self, server, shell):
        """Text, picture, text, in order."""
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings" \\
  -H "Content-Type: application/json" \\
  -d '{
    "input": [
      "a cat",
      "https://example.com/cat.jpg",
      "a dog"
    ]
  }'
"""
        cat, picture, dog = vectors(shell(server, example))
        assert picture @ dog > picture @ cat  # the picture behind the URL is a dog's

    def test_an_image_url_is_refused_unless_the_operator_allows_it(self, running, shell):
        """On purpose: a server that fetches any URL reaches what only its own network should. The error names the setting."""
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings" \\
  -H "Content-Type: application/json" \\
  -d '{"input": "https://example.com/image.jpg"}'
"""
        error = shell(running(MODELS=f"{LARGE}={EMOJI}"), example)["error"]
        assert (error["param"], error["code"]) == ("input", "image_url_refused")
        assert "ALLOW_IMAGE_URLS=true" in error["message"]

    def test_form_data_with_a_url(self, server, shell):
        """The README's comment says "text or URL"."""
        answer = shell(
            server, 'curl -s "http://localhost:8001/v1/embeddings/image" -F "input=https://example.com/image.jpg"'
        )
        assert answer["usage"]["image_patches"] > 0

    def test_base64_image_embedding(self, server, shell, pictures):
        """With the whole picture in place of the README's dots; the dots themselves are a 400, never a text."""
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings" \\
  -H "Content-Type: application/json" \\
  -d '{"input": "data:image/jpeg;base64,/9j/4AAQ..."}'
"""
        refused = shell(server, example)["error"]
        assert (refused["param"], refused["code"]) == ("input", "image_undecodable")
        whole = base64.b64encode((pictures / "image.jpg").read_bytes()).decode()
        answer = shell(server, example.replace("/9j/4AAQ...", whole))
        assert answer["usage"]["image_patches"] > 0

    def test_upload_image_file(self, server, shell):
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings/image" \\
  -F "file=@/path/to/image.jpg"
"""
        answer = shell(server, example)
        assert answer["usage"]["image_patches"] > 0

    def test_form_data_with_text(self, server, shell):
        example = """
curl -s -X POST "http://localhost:8001/v1/embeddings/image" \\
  -F "input=a photo of a cat"
"""
        answer = shell(server, example)
        assert answer["usage"]["prompt_tokens"] > 0

    def test_upload_by_python(self, server, python):
        example = """
import requests

# Upload file
with open("image.jpg", "rb") as f:
    response = requests.post(
        "http://localhost:8001/v1/embeddings/image",
        files={"file": ("image.jpg", f, "image/jpeg")}
    )
"""
        assert len(python(server, example, "response.json()")["data"][0]["embedding"]) == DIMENSIONS


class TestRankAndClassify:
    def test_rank_pictures_behind_urls(self, server, shell):
        """The curl example of "Rank/Similarity"."""
        example = """
curl -s -X POST "http://localhost:8001/v1/rank" \\
  -H "Content-Type: application/json" \\
  -d '{
    "query": "cute animals",
    "candidates": [
      "https://example.com/cat.jpg",
      "https://example.com/dog.jpg",
      "https://example.com/fish.jpg"
    ]
  }'
"""
        rankings = shell(server, example)["results"][0]["rankings"]
        assert [item["index"] for item in rankings] == [0, 1, 2]  # one picture stands for all three
        assert {item["candidate"].rpartition("/")[2] for item in rankings} == {"cat.jpg", "dog.jpg", "fish.jpg"}

    def test_a_url_as_the_query(self, server, shell):
        """The request of "Rank/Similarity"."""
        example = """
curl -s -X POST "http://localhost:8001/v1/rank" \\
  -H "Content-Type: application/json" \\
  -d '{
  "query": "https://example.com/image.jpg",
  "candidates": [
    "a photo of a cat",
    "a photo of a dog",
    "a photo of a bird"
  ]
}'
"""
        assert len(shell(server, example)["results"][0]["rankings"]) == 3

    def test_classify_a_url(self, server, shell):
        """The curl example of "Zero-shot Classification"; the address has no suffix."""
        example = """
curl -s -X POST "http://localhost:8001/v1/classify" \\
  -H "Content-Type: application/json" \\
  -d '{
    "image": "https://images.unsplash.com/photo-1514888286974-6c03e2ca1dba",
    "labels": ["cat", "dog", "hamster", "rabbit"]
  }'
"""
        assert shell(server, example)["classifications"][0]["label"] == "dog"  # the picture of a dog stands for it

    @pytest.mark.parametrize(
        "body",
        [
            {"query": "image.jpg", "candidates": ["a photo of a cat", "a photo of a dog", "a photo of a bird"]},
            {"query": "cute animals", "candidates": ["image1.jpg", "image2.jpg", "image3.jpg"]},
        ],
    )
    def test_rank_a_picture_by_texts_and_a_text_by_pictures(self, server, python, body):
        """The two requests of "Rank/Similarity", with files below IMAGE_ROOT."""
        example = f'import requests\nresponse = requests.post("http://localhost:8001/v1/rank", json={body!r})'
        rankings = python(server, example, "response.json()")["results"][0]["rankings"]
        assert sorted(item["candidate"] for item in rankings) == sorted(body["candidates"])
        scores = [item["score"] for item in rankings]
        assert scores == sorted(scores, reverse=True)

    def test_classify_a_picture_of_a_json_request(self, server, python, pictures):
        """The body of "Zero-shot Classification", with the picture inline."""
        inline = base64.b64encode((pictures / "image.jpg").read_bytes()).decode()
        body = {"image": f"data:image/jpeg;base64,{inline}", "labels": ["cat", "dog", "pizza", "fish"]}
        example = f'import requests\nresponse = requests.post("http://localhost:8001/v1/classify", json={body!r})'
        best = python(server, example, "response.json()")["classifications"][0]
        assert (best["label"], set(best)) == ("pizza", {"label", "score", "similarity"})

    def test_classify_an_upload_by_curl(self, server, shell):
        example = """
curl -s -X POST "http://localhost:8001/v1/classify/image" \\
  -F "file=@/path/to/image.jpg" \\
  -F "labels=cat,dog,bird,fish"
"""
        answer = shell(server, example)
        assert answer["filename"] == "image.jpg"
        assert {item["label"] for item in answer["classifications"]} == {"cat", "dog", "bird", "fish"}

    def test_classify_an_upload_by_python(self, server, python):
        example = """
import requests

with open("image.jpg", "rb") as f:
    response = requests.post(
        "http://localhost:8001/v1/classify/image",
        files={"file": ("image.jpg", f, "image/jpeg")},
        data={"labels": "cat,dog,bird,fish"}
    )
"""
        assert len(python(server, example, "response.json()")["classifications"]) == 4

    def test_a_score_is_a_probability_and_no_sigmoid_of_the_cosine(self, server, python):
        """On purpose: theirs lies between 0.27 and 0.73 for every pair, so thresholds must be set anew."""
        body = {"query": "image.jpg", "candidates": ["a bicycle"]}
        example = f'import requests\nresponse = requests.post("http://localhost:8001/v1/rank", json={body!r})'
        (item,) = python(server, example, "response.json()")["results"][0]["rankings"]
        assert item["score"] < 0.1 < 1 / (1 + np.exp(-item["similarity"]))


class TestHealth:
    def test_the_readme_s_fields(self, server, shell):
        """Each field of the README's example answer."""
        answer = shell(server, "curl -s http://localhost:8000/health")
        shown: dict[str, Any] = {
            "hardware": ["cpu_cores", "has_gpu", "gpu_name", "gpu_memory_gb", "device_type"],
            "batch_processing": ["enabled", "batch_size", "max_concurrent_batches", "auto_scaling"],
            "performance_estimates": ["images_per_second", "note"],
        }
        assert answer["status"] == "healthy"
        assert [name for block, names in shown.items() for name in names if name not in answer[block]] == []

    def test_the_root_answers(self, server, shell):
        assert shell(server, "curl -s http://localhost:8000/")["docs"] == "/docs"


class TestUseCases:
    def test_image_search(self, server, python, pictures):
        """The names in `image_urls` are files below IMAGE_ROOT, and their vectors those of the pictures."""
        example = """
import requests
import numpy as np

# Get embeddings for query and images
query_resp = requests.post("http://localhost:8001/v1/embeddings",
    json={"input": "sunset over mountains"})
query_embedding = np.array(query_resp.json()["data"][0]["embedding"])

# Get embeddings for your image database
image_urls = ["image1.jpg", "image2.jpg", "image3.jpg"]
images_resp = requests.post("http://localhost:8001/v1/embeddings",
    json={"input": image_urls})

# Calculate similarities
image_embeddings = [np.array(d["embedding"]) for d in images_resp.json()["data"]]
similarities = [np.dot(query_embedding, img_emb) for img_emb in image_embeddings]
"""
        pizza = python(server, example.replace("sunset over mountains", "pizza"), "similarities")
        assert int(np.argmax(pizza)) == 0
        found = python(server, example, "images_resp.json()")
        uploads = """
import requests
files = [("file", open(name, "rb")) for name in ("image1.jpg", "image2.jpg", "image3.jpg")]
response = requests.post("http://localhost:8001/v1/embeddings/image", files=files)
"""
        assert np.array_equal(vectors(found), vectors(python(server, uploads, "response.json()")))

    def test_image_search_without_image_root_is_refused_and_never_a_text(self, running, python):
        """On purpose: a server that reads any path reads /etc/passwd."""
        server = running(MODELS=f"{LARGE}={EMOJI}")
        example = """
import requests
images_resp = requests.post("http://localhost:8001/v1/embeddings", json={"input": ["image1.jpg", "image2.jpg"]})
"""
        error = python(server, example, "images_resp.json()")["error"]
        assert error["param"] == "input[0]"
        assert "IMAGE_ROOT" in error["message"]

    def test_file_upload_workflow(self, server, python):
        example = """
import requests

# Upload and get embedding
with open("local_image.jpg", "rb") as f:
    response = requests.post(
        "http://localhost:8001/v1/embeddings/image",
        files={"file": f}
    )
    embedding = response.json()["data"][0]["embedding"]

# Upload and classify
with open("local_image.jpg", "rb") as f:
    response = requests.post(
        "http://localhost:8001/v1/classify/image",
        files={"file": f},
        data={"labels": "cat,dog,bird"}
    )
    classifications = response.json()["classifications"]
"""
        embedding, classifications = python(server, example, "(embedding, classifications)")
        assert len(embedding) == DIMENSIONS
        assert {item["label"] for item in classifications} == {"cat", "dog", "bird"}

    def test_cross_modal_retrieval(self, server, python):
        """Pictures by a sentence; the first ranking is the right picture."""
        example = """
import requests
image_urls = ["image1.jpg", "image2.jpg", "image3.jpg"]
# Use the ranking endpoint
response = requests.post("http://localhost:8001/v1/rank",
    json={
        "query": "an octopus",
        "candidates": image_urls
    })
rankings = response.json()["results"][0]["rankings"]
"""
        assert python(server, example, "rankings")[0]["candidate"] == "image2.jpg"
