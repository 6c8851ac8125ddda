"""Other people's clients against a real server: each works, or gets the helpful error."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

HERE = Path(__file__).parent

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mO8IyLCwMDAxMDAwMDAAAANIgEIUl86SgAAAABJRU5ErkJggg=="
)
INPUTS = ["a cat on a sofa", "una puesta de sol", PICTURE]


@pytest.fixture(scope="module")
def expected(url):
    """The vectors by plain HTTP, as JSON numbers."""
    answer = httpx.post(f"{url}/v1/embeddings", json={"input": INPUTS, "encoding_format": "float"}, timeout=60)
    return np.array([item["embedding"] for item in answer.raise_for_status().json()["data"]], np.float32)


def assert_same(vectors, expected):
    """Equal as float32: to the last bit."""
    assert np.array_equal(np.array(vectors, np.float32), expected)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}], ids=str)
def test_openai_python(url, expected, encoding):
    """The official Python client, which asks for base64 unasked: the same bits."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        data = client.embeddings.create(model="", input=INPUTS, **encoding).data
    vectors = [item.embedding for item in data]
    if encoding.get("encoding_format") == "base64":  # asked for by name, the client hands the text through
        assert all(isinstance(vector, str) for vector in vectors)
    else:
        assert_same(vectors, expected)


def test_openai_python_errors(url):
    """Its error classes fit: BadRequestError with param and code, NotFoundError."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            client.embeddings.create(model="", input=["a cat", "data:image/png;base64,AAAA"])
        assert (bad.value.param, bad.value.code) == ("input[1]", "image_undecodable")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="text-embedding-3-small", input="a cat")
        assert client.models.list().data[0].object == "model"


def npm(url, **options):
    """What tests/clients/embed.mjs prints for these options."""
    run = subprocess.run(
        ["node", str(HERE / "embed.mjs"), json.dumps(options)],
        env={**os.environ, "BASE_URL": f"{url}/v1"}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return json.loads(run.stdout)


def test_openai_npm(url, expected):
    """The official JavaScript client: the same bits, and the error's param."""
    assert_same(npm(url, model="", input=INPUTS), expected)
    error = npm(url, model="", input=["a cat", "data:image/png;base64,AAAA"])
    assert (error["status"], error["param"]) == (400, "input[1]")


def test_langchain_with_strings(url, expected):
    """OpenAIEmbeddings(check_embedding_ctx_length=False) sends strings: the same vectors."""
    from langchain_openai import OpenAIEmbeddings

    client = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="none", model="", check_embedding_ctx_length=False)
    assert_same(client.embed_documents(INPUTS), expected)
    assert_same(client.embed_query(INPUTS[0]), expected[0])


def test_langchain_with_token_ids(url, monkeypatch):
    """In its default mode LangChain sends another model's token ids: refused, with the way out in the message."""
    import tiktoken
    from langchain_openai import OpenAIEmbeddings

    monkeypatch.setattr(tiktoken, "encoding_for_model", _no_download)
    monkeypatch.setattr(tiktoken, "get_encoding", _no_download)
    client = OpenAIEmbeddings(base_url=f"{url}/v1", api_key="none", model="text-embedding-ada-002", max_retries=0)
    client.model = ""
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        client.embed_documents(["a cat"])


def _no_download(*args, **kwargs):
    """tiktoken's encodings come from the network: bytes do for a stand-in, ids are ids."""
    import tiktoken

    return tiktoken.Encoding(
        "bytes", pat_str=r"(?s:.)", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )


def test_litellm(url, expected, monkeypatch):
    """LiteLLM's openai route, which sends encoding_format null: the same vectors."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # its price list comes from the network otherwise
    import litellm

    answer = litellm.embedding(model=f"openai/{_served(url)}", input=INPUTS, api_base=f"{url}/v1", api_key="none")
    assert_same([item["embedding"] for item in answer.data], expected)


def _served(url):
    return httpx.get(f"{url}/v1/models").json()["data"][0]["id"]


def test_llama_index(url, expected):
    """LlamaIndex's OpenAILikeEmbedding: the same vectors."""
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    client = OpenAILikeEmbedding(model_name=_served(url), api_base=f"{url}/v1", api_key="none", max_retries=0)
    assert_same(client.get_text_embedding_batch(INPUTS), expected)
    assert_same(client.get_query_embedding(INPUTS[0]), expected[0])
