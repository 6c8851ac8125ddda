"""`prompt_name`, `input_type` and `task`: the text that a model wants before an input."""

from __future__ import annotations

import falcon.testing
import msgspec
import pytest

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.server.conftest import data_uri, form, png
from tests.server.fake_model import FakeModel
from tests.tiny_text_model import write_text_encoder

GEMMA = {
    "query": "q: ",
    "document": "d: ",
    "Classification": "c: ",
    "Clustering": "g: ",
    "STS": "s: ",
}
"""Names of EmbeddingGemma."""


def client_of(directory, prompts=GEMMA, *, default_prompt=None, towers=None, **environ):
    """The app over a fake model with these prompts; `towers`: those of another manifest besides."""
    text = msgspec.structs.replace(
        Manifest.load(directory).text, prompts=prompts, default_prompt=default_prompt, length=16
    )
    manifest = Manifest.load(directory)
    towers = msgspec.structs.replace(towers or manifest.towers, text=text)
    fake = FakeModel(msgspec.structs.replace(manifest, towers=towers))
    return falcon.testing.TestClient(create_app(Settings.from_env(environ), fake))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_text_encoder(tmp_path_factory.mktemp("model") / "texts")


@pytest.fixture
def client(directory):
    return client_of(directory)


def vectors(client, given, **fields):
    answer = client.simulate_post("/v1/embeddings", json={"input": given, **fields})
    assert answer.status_code == 200, answer.text
    return [item["embedding"] for item in answer.json["data"]]


def refused(client, given="x", **fields):
    answer = client.simulate_post("/v1/embeddings", json={"input": given, **fields})
    assert answer.status_code == 400, answer.text
    return answer.json["error"]


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, ""),
        ({"prompt_name": "query"}, "q: "),
        ({"prompt_name": "Clustering"}, "g: "),
        ({"input_type": "search_query"}, "q: "),
        ({"input_type": "search_document"}, "d: "),
        ({"input_type": "classification"}, "c: "),
        ({"input_type": "clustering"}, "g: "),
        ({"input_type": "query"}, "q: "),
        ({"input_type": "document"}, "d: "),
        ({"input_type": "passage"}, "d: "),
        ({"input_type": "image"}, "d: "),
        ({"task": "retrieval.query"}, "q: "),
        ({"task": "retrieval.passage"}, "d: "),
        ({"task": "text-matching"}, "s: "),
        ({"task": "separation"}, "g: "),
        ({"input_type": "sts"}, "s: "),
        ({"input_type": "query", "prompt_name": "query", "task": "retrieval.query"}, "q: "),
        ({"input_type": None, "prompt_name": None, "task": None}, ""),
    ],
)
def test_a_prompt_by_every_word_is_the_text_before_the_input(client, fields, prompt):
    """The same bits as the text with the prompt written out."""
    assert vectors(client, ["a", "b"], **fields) == vectors(client, [f"{prompt}a", f"{prompt}b"])


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "q: "},  # arctic-embed
        {"query": "q: ", "passage": "d: "},  # mxbai, nomic
        {"query": "q: ", "document": ""},  # Qwen3-Embedding
        {"retrieval.query": "q: ", "retrieval.passage": "d: ", "text-matching": ""},  # jina-embeddings-v3
        {"search_query": "q: ", "search_document": "d: "},
        {"s2p_query": "q: "},  # stella
    ],
    ids=" ".join,
)
def test_queries_and_documents_by_the_names_of_several_checkpoints(directory, prompts):
    """Documents of a model with a prompt for queries alone have none, as in sentence-transformers."""
    client = client_of(directory, prompts)
    document = "d: a" if "d: " in prompts.values() else "a"
    assert vectors(client, "a", input_type="query") == vectors(client, "q: a")
    assert vectors(client, "a", input_type="document") == vectors(client, document)


def test_an_unknown_prompt_is_named_with_those_of_the_model(client):
    assert refused(client, prompt_name="Query") == {
        "message": "no prompt 'Query'; this model has query, document, Classification, Clustering, STS",
        "type": "invalid_request_error",
        "param": "prompt_name",
        "code": "unknown_prompt",
    }


@pytest.mark.parametrize(("field", "word"), [("input_type", "classification"), ("task", "text-matching")])
def test_a_use_that_the_model_has_no_prompt_for_is_refused(directory, field, word):
    """Its vectors would be those of another use."""
    error = refused(client_of(directory, {"query": "q: "}), **{field: word})
    assert (error["param"], "this model has query" in error["message"]) == (field, True)


@pytest.mark.parametrize("prompts", [{}, {"query": "", "document": ""}], ids=["none", "empty"])
def test_without_prompts_the_words_of_other_apis_have_no_effect(directory, prompts):
    """The model treats all inputs alike, so the answer is right; a client may always send them."""
    client = client_of(directory, prompts)
    for fields in ({"input_type": "query"}, {"input_type": "classification"}, {"task": "code.query"}):
        assert vectors(client, "a", **fields) == vectors(client, "a")
    assert "no prompt 'STS'" in refused(client, prompt_name="STS")["message"]


def test_two_prompts_at_once_are_refused(client):
    error = refused(client, prompt_name="document", input_type="query")
    assert (error["param"], error["message"]) == (
        "input_type",
        "prompt_name and input_type ask for different prompts; send one of them",
    )


def test_the_default_prompt_is_that_of_inputs_that_ask_for_none(directory):
    """Another prompt takes its place, also an empty one."""
    client = client_of(directory, {"query": "q: ", "document": ""}, default_prompt="query")
    plain = client_of(directory, {})
    assert vectors(client, "a") == vectors(client, "a", prompt_name="query") == vectors(plain, "q: a")
    assert vectors(client, "a", input_type="document") == vectors(plain, "a")


def test_the_prompt_counts_as_tokens_and_is_cut_with_the_text(client):
    """Bytes are tokens here, and an end follows: "q: abc" has seven."""
    answer = client.simulate_post("/v1/embeddings", json={"input": ["abc", "x" * 13], "prompt_name": "query"}).json
    assert answer["usage"]["prompt_tokens"] == 7 + 16
    assert [item.get("truncated", False) for item in answer["data"]] == [False, True]


def test_the_cache_tells_prompts_apart(directory):
    """The same text with two prompts has two vectors, also when both are kept."""
    client = client_of(directory)
    for _ in range(2):
        assert vectors(client, "a", prompt_name="query") != vectors(client, "a", prompt_name="document")


def test_token_ids_have_no_prompt(directory):
    """They are refused with a prompt, and are embedded as they are without, whatever the default."""
    client = client_of(directory, {"query": "q: ", "document": ""}, default_prompt="query", ACCEPT_TOKEN_IDS="true")
    ids = [*b"a", 1]
    error = refused(client, [ids], prompt_name="query")
    assert (error["param"], "before token ids" in error["message"]) == ("input[0]", True)
    assert vectors(client, [ids]) == vectors(client, "a", prompt_name="document")
    assert vectors(client, [ids], prompt_name="document") == vectors(client, [ids])


def test_an_image_has_no_prompt_and_the_text_beside_it_has(directory, tiny_dir):
    client = client_of(directory, {"query": "q: "}, towers=Manifest.load(tiny_dir).towers)
    image = data_uri(png())
    assert vectors(client, image, prompt_name="query") == vectors(client, image)
    joint = {"text": "a", "image": image}
    assert vectors(client, joint, prompt_name="query") == vectors(client, {**joint, "text": "q: a"})


def test_a_template_stands_behind_the_prompt(directory):
    """TEXT_TEMPLATE is the operator's, the prompt the model's: the model reads its prompt first."""
    client = client_of(directory, TEXT_TEMPLATE="<{}>")
    assert vectors(client, "a", prompt_name="query") == vectors(client_of(directory), "q: <a>")


def test_a_prompt_in_a_form(client):
    answer = client.simulate_post("/v1/embeddings/image", **form([("input", "a"), ("prompt_name", "query")]))
    assert [item["embedding"] for item in answer.json["data"]] == vectors(client, "q: a")


def test_prompts_are_of_one_space(client):
    """A query and a document are meant to be compared."""
    spaces = {
        client.simulate_post("/v1/embeddings", json={"input": "a", "input_type": word}).headers["X-Embedding-Space"]
        for word in ("query", "document")
    }
    assert spaces == {"texts-space"}


def test_ranking_asks_with_the_query_prompt_among_documents_with_theirs(client):
    """On `/v1/rank` and on llama.cpp's routes; the score of a text model is the cosine."""
    (query,) = vectors(client, "q: a")
    expected = {
        index: sum(x * y for x, y in zip(query, vector, strict=True))
        for index, vector in enumerate(vectors(client, ["d: b", "d: c"]))
    }
    (result,) = client.simulate_post("/v1/rank", json={"query": "a", "candidates": ["b", "c"]}).json["results"]
    assert {one["index"]: one["score"] for one in result["rankings"]} == pytest.approx(expected, abs=1e-6)
    assert all(one["score"] == one["similarity"] for one in result["rankings"])
    reranked = client.simulate_post("/v1/rerank", json={"query": "a", "documents": ["b", "c"]}).json["results"]
    assert {one["index"]: one["relevance_score"] for one in reranked} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rank", {"query": "a", "candidates": ["b", "c"]}),
        ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
        ("/embedding", {"content": "a"}),
    ],
)
def test_routes_without_the_fields_ignore_them(client, path, body):
    """As docs/api.md says, and as they ignore every other field that they do not have."""
    fields = {"prompt_name": "nope", "input_type": "clustering", "task": "text-matching"}
    assert client.simulate_post(path, json=body | fields).json == client.simulate_post(path, json=body).json
