"""Models of other families behind every face: a text encoder, a CLIP, a vision encoder."""

from __future__ import annotations

import falcon.testing
import msgspec
import pytest

from siglip_edge.runtime.artifacts.manifest import Cosine, Manifest, Towers
from siglip_edge.runtime.errors import ArtifactMissing
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.server.conftest import Field, data_uri, form, loading_app, png, wait_until
from tests.server.fake_model import FakeModel
from tests.tiny_model import write_model
from tests.tiny_text_model import write_clip, write_text_encoder

PICTURE = data_uri(png())


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """-> photos (SigLIP), texts (a text encoder), clip, sight (images only)."""
    folder = tmp_path_factory.mktemp("models")
    sight = write_model(folder / "sight", name="sight", space_id="sight-space", seed=9)
    manifest = Manifest.load(sight)
    msgspec.structs.replace(manifest, towers=Towers(vision=manifest.vision), golden=None).save(sight)
    return {
        "photos": write_model(folder / "photos", name="photos", space_id="photos-space"),
        "texts": write_text_encoder(folder / "texts", default_prompt="query"),
        "clip": write_clip(folder / "clip"),
        "sight": sight,
    }


@pytest.fixture(scope="module")
def client(directories):
    """All of them, loaded by the server itself."""
    models = ",".join(f"{name}={directory}" for name, directory in directories.items())
    client = falcon.testing.TestClient(loading_app([], MODELS=models))
    wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
    return client


def post(client, path, body, status=200):
    answer = client.simulate_post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json


class TestTextsOnly:
    """A model without a vision tower."""

    SENTENCE = "model texts embeds texts only, no images; name a model with images as `model`: photos, clip, sight"

    @pytest.mark.parametrize(
        ("path", "body", "param"),
        [
            ("/v1/embeddings", {"input": ["a", PICTURE]}, "input[1]"),
            ("/v1/embeddings", {"input": {"text": "a", "image": PICTURE}}, "input.image"),
            ("/v1/classify", {"image": PICTURE, "labels": ["a"]}, "image"),
            ("/v1/classify", {"image": PICTURE, "labels": ["a"], "multi_label": False}, "image"),
            ("/v1/rank", {"query": PICTURE, "candidates": ["a"]}, "query"),
            ("/v1/rank", {"query": "a", "candidates": ["b", PICTURE]}, "candidates[1]"),
            ("/evaluator/v1/evaluation/single", {"image": PICTURE, "text": "a"}, "image"),
        ],
    )
    def test_an_image_is_refused_with_the_remedy(self, client, path, body, param):
        error = post(client, path, {**body, "model": "texts"}, 400)["error"]
        assert (error["message"], error["param"]) == (self.SENTENCE, param)
        assert error["code"] == "modality_not_served"

    @pytest.mark.parametrize(
        ("path", "labels", "param"), [("/v1/embeddings/image", [], "file[0]"), ("/v1/classify/image", ["a,b"], "file")]
    )
    def test_an_uploaded_image_is_refused_too(self, client, path, labels, param):
        fields: list[Field] = [("file", ("a.png", png())), ("model", "texts"), *(("labels", word) for word in labels)]
        error = client.simulate_post(path, **form(fields)).json["error"]
        assert (error["message"], error["param"]) == (self.SENTENCE, param)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/classify", {"image": "a text", "labels": ["a"]}),
            ("/evaluator/v1/evaluation/single", {"image": "cat.jpg", "text": "a"}),
            ("/v1/embeddings", {"input": {"image": "https://x.org/cat.jpg"}}),
            ("/v1/embeddings", {"input": "a text", "modality": "image"}),
            ("/v1/embeddings", {"input": PICTURE.partition(",")[2]}),
            ("/v1/embeddings", {"input": PICTURE.replace("image/png", "application/octet-stream")}),
        ],
    )
    def test_it_is_refused_before_its_form_is_judged(self, client, path, body):
        """No other form of the image would help."""
        assert post(client, path, {**body, "model": "texts"}, 400)["error"]["message"] == self.SENTENCE

    @pytest.mark.parametrize(
        "text", ["https://x.org/page", "photos/2024/cat.jpg", "/home/a/cat.png", "data:text/plain,hello", "<svg></svg>"]
    )
    def test_every_other_string_is_a_text(self, client, text):
        """A bookmark among the documents does not fail the batch, and is repeated whole."""
        plain, stated = (
            post(client, "/v1/embeddings", {"input": ["a", given], "model": "texts"})["data"]
            for given in (text, {"text": text})
        )
        assert plain == stated
        post(client, "/embedding", {"content": text, "model": "texts"})
        long = f"{text}{'x' * 70}"
        body = {"query": "a", "documents": [long], "return_documents": True, "model": "texts"}
        assert post(client, "/v1/rerank", body)["results"][0]["document"] == {"text": long}
        ranking = post(client, "/v1/rank", {"query": "a", "candidates": [long], "model": "texts"})
        assert ranking["results"][0]["rankings"][0]["candidate"] == long

    def test_the_other_faces_refuse_it_in_their_own_shape(self, client):
        prompt = {"prompt_string": "<__media__>", "multimodal_data": [PICTURE]}
        assert (
            self.SENTENCE
            in post(client, "/embedding", {"content": [prompt], "model": "texts"}, 400)["error"]["message"]
        )
        body = {"query": "a", "documents": [PICTURE], "model": "texts"}
        assert self.SENTENCE in post(client, "/rerank", body, 400)["error"]["message"]
        pair = {"image_input": PICTURE, "text_prompt": "a", "model_config_name": "texts"}
        batch = post(client, "/evaluator/v1/evaluation/batch", {"evaluations": [pair]})
        assert batch["results"][0]["error"] == f"evaluations[0].image_input: {self.SENTENCE}"

    def test_a_bad_item_alone_is_an_error_in_place(self, client):
        body = {"input": ["a", PICTURE], "model": "texts", "on_error": "null"}
        first, second = post(client, "/v1/embeddings", body)["data"]
        assert len(first["embedding"]) == 12
        assert (second["embedding"], second["error"]["message"]) == (None, self.SENTENCE)

    def test_its_own_server_names_no_other_model(self, directories):
        client = falcon.testing.TestClient(loading_app([], MODEL=str(directories["texts"])))
        wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
        message = post(client, "/v1/embeddings", {"input": PICTURE}, 400)["error"]["message"]
        assert message == "model texts embeds texts only, no images; no model of this server does"
        assert client.simulate_get("/props").json["modalities"] == {"vision": False, "audio": False}
        note = client.simulate_get("/health").json["performance_estimates"]["note"]
        assert note == "the default model embeds texts only"

    def test_towers_that_a_model_lacks_stop_the_start(self, directories):
        """TOWERS=vision leaves nothing of a text encoder."""
        with pytest.raises(ArtifactMissing, match="texts: this model has no vision tower, only text; set TOWERS=both"):
            create_app(Settings.from_env({"MODEL": str(directories["texts"]), "TOWERS": "vision"}))


def test_an_image_model_refuses_texts_with_the_remedy(client):
    error = post(client, "/v1/embeddings", {"input": "a", "model": "sight"}, 400)["error"]
    remedy = "name a model with texts as `model`: photos, texts, clip"
    assert error["message"] == f"model sight embeds images only, no texts; {remedy}"
    assert len(post(client, "/v1/embeddings", {"input": PICTURE, "model": "sight"})["data"]) == 1
    assert client.simulate_get("/props", params={"model": "sight"}).json["default_generation_settings"]["n_ctx"] == 0


def test_the_list_of_models_says_what_each_takes(client):
    cards = {card["id"]: card for card in client.simulate_get("/v1/models").json["data"]}
    facts = ("family", "modalities", "max_tokens", "image_size", "prompts", "default_prompt", "scoring")
    assert {name: tuple(card[fact] for fact in facts) for name, card in cards.items()} == {
        "photos": ("siglip", ["text", "image"], 16, 16, [], None, "sigmoid"),
        "texts": ("text", ["text"], 16, None, ["query"], "query", "cosine"),
        "clip": ("clip", ["text", "image"], 16, 16, [], None, "softmax"),
        "sight": ("siglip", ["image"], None, 16, [], None, "sigmoid"),
    }


def test_health_and_metrics_of_all_of_them(client):
    """A lane per tower that a model has."""
    lanes = {
        model["id"]: [lane["tower"] for lane in model["lanes"]]
        for model in client.simulate_get("/health").json["models"]
    }
    assert lanes == {"photos": ["text", "vision"], "texts": ["text"], "clip": ["text", "vision"], "sight": ["vision"]}
    metrics = client.simulate_get("/metrics").text
    assert 'embedding_batch_rows_count{model="texts",tower="text"}' in metrics
    assert 'model="texts",tower="vision"' not in metrics


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", {"image": "a text", "labels": ["a"]}),
        ("/v1/classify", {"image": "https://x.org/cat.jpg", "labels": ["a"]}),
        ("/evaluator/v1/evaluation/single", {"image": "a text", "text": "a"}),
        ("/evaluator/v1/evaluation/single", {"image_input": "a text", "text_prompt": "a"}),
    ],
)
def test_where_an_image_alone_is_taken_no_text_is_offered(client, path, body):
    """The remedy names forms of images."""
    message = post(client, path, body, 400)["error"]["message"]
    assert "data URI" in message
    assert '"modality"' not in message


class TestSoftmax:
    """A CLIP's scores compare the candidates of one query."""

    def test_shares_of_the_labels_sum_to_one_unasked(self, client):
        body = {"image": PICTURE, "labels": ["cat", "dog", "bird"], "model": "clip"}
        plain, false = (post(client, "/v1/classify", {**body, **more}) for more in ({}, {"multi_label": False}))
        assert plain == false
        assert sum(one["score"] for one in plain["classifications"]) == pytest.approx(1, abs=1e-5)

    def test_a_probability_of_each_label_does_not_exist(self, client):
        body = {"image": PICTURE, "labels": ["cat", "dog"], "model": "clip", "multi_label": True}
        error = post(client, "/v1/classify", body, 400)["error"]
        assert error["param"] == "multi_label"
        assert "compares the labels and has no probability of a label on its own" in error["message"]

    def test_shares_of_the_candidates_sum_to_one_before_the_best_are_taken(self, client):
        body = {"query": PICTURE, "candidates": ["cat", "dog", "bird"], "model": "clip"}
        scores = [one["score"] for one in post(client, "/v1/rank", body)["results"][0]["rankings"]]
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        best = post(client, "/v1/rank", {**body, "top_n": 1})["results"][0]["rankings"]
        assert [one["score"] for one in best] == scores[:1]
        documents = {"query": "cat", "documents": ["cat", "dog"], "model": "clip"}
        reranked = post(client, "/v1/rerank", documents)["results"]
        assert sum(one["relevance_score"] for one in reranked) == pytest.approx(1, abs=1e-5)

    def test_the_score_of_a_pair_is_the_cosine(self, client):
        pair = post(client, "/evaluator/v1/evaluation/single", {"image": PICTURE, "text": "cat", "model": "clip"})
        assert pair["score"] == pair["similarity"]


def test_a_cosine_model_has_no_softmax(tiny_dir):
    """Its score of a label is the cosine; multi_label false asks for what it does not have."""
    manifest = msgspec.structs.replace(Manifest.load(tiny_dir), scoring=Cosine())
    client = falcon.testing.TestClient(create_app(Settings.from_env({}), FakeModel(manifest)))
    body = {"image": PICTURE, "labels": ["cat", "dog"]}
    for more in ({}, {"multi_label": True}):
        assert all(
            one["score"] == one["similarity"]
            for one in post(client, "/v1/classify", {**body, **more})["classifications"]
        )
    error = post(client, "/v1/classify", {**body, "multi_label": False}, 400)["error"]
    assert (error["param"], "no softmax" in error["message"]) == ("multi_label", True)
