"""Clients that generators write from `/openapi.json`: they compile, or import, and get right answers from the server."""

from __future__ import annotations

import base64
import importlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.clients.conftest import ROOT

HERE = Path(__file__).parent
PIZZA = (ROOT / "demo/heldout/noto-v1--pizza.png").read_bytes()
IN_BASE64 = base64.b64encode(PIZZA).decode()
IMAGE = f"data:image/png;base64,{IN_BASE64}"
LABELS = ["pizza", "rocket"]


def run(*command, **options):
    """What the command prints; its whole output where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def vector_of(url, given):
    """By plain HTTP."""
    answer = httpx.post(f"{url}/v1/embeddings", json={"input": given}, timeout=60).raise_for_status()
    return answer.json()["data"][0]["embedding"]


@pytest.fixture(scope="module")
def answers(url, tmp_path_factory):
    """Answers to the requests of `typed_requests.ts`, compiled with the types of openapi-typescript."""
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "schema.d.ts").write_text(run("node", str(HERE / "generate_types.mjs"), f"{url}/openapi.json"))
    shutil.copy(HERE / "typed_requests.ts", folder)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2023,dom,dom.iterable"]
    run(str(HERE / "node_modules/.bin/tsc"), *options, "typed_requests.ts", cwd=folder)
    return json.loads(run("node", str(folder / "typed_requests.js"), url, IN_BASE64))


def test_documented_requests_have_the_generated_types(answers, url):
    """With `tsc --strict`: every documented field, null too, and every form of input; the vectors of plain HTTP."""
    text, image = vector_of(url, "pizza"), vector_of(url, IMAGE)
    vectors = [item["embedding"] for item in answers["mixed"]["data"]]
    assert vectors[:4] == [text, image, text, image]
    assert [item["embedding"] for item in answers["parts"]["data"]] == [text, image, vectors[4]]
    assert answers["messages"]["data"][0]["embedding"] == image
    assert answers["encodings"]["data"][0]["embedding"]["float"] == text
    assert answers["text"]["data"] == answers["nulls"]["data"] == answers["expected"]["data"]
    short = np.frombuffer(base64.b64decode(answers["everyField"]["data"][0]["embedding"]), "<f4")
    assert len(short) == 64
    assert answers["unexpected"]["type"] == "invalid_request_error"
    assert answers["prompts"][0]["embedding"] == [text]


def test_typed_uploads_and_scores(answers, url):
    """Files of a form, ranking, classification, evaluation: the right label is the best."""
    assert [item["embedding"] for item in answers["files"]["data"]] == [vector_of(url, IMAGE)] * 2 + [
        vector_of(url, "pizza")
    ]
    assert answers["ranked"]["results"][0]["rankings"][0]["candidate"] == "pizza"
    assert answers["reranked"]["results"][0]["index"] == 0
    for name in ("classified", "classifiedFile"):
        assert answers[name]["classifications"][0]["label"] == "pizza"
    assert answers["batch"]["results"][0]["score"] == answers["evaluated"]["score"] > 0.5
    assert answers["clipScore"]["score"] == answers["evaluated"]["score"]
    assert answers["model"]["modalities"] == ["text", "image"]
    assert answers["health"]["models"][0]["id"] == answers["model"]["id"]


@pytest.fixture(scope="module")
def edge_client(url, tmp_path_factory):
    """`edge_client("api.embeddings")`: modules of a package that openapi-python-client writes."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "openapi.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    (folder / "config.yml").write_text("post_hooks: []")  # nobody reads it: it need not be formatted
    generator = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--fail-on-warning"]
    options = ["--path", "openapi.json", "--config", "config.yml", "--meta", "none", "--output-path", "edge_client"]
    run(*generator, *options, cwd=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield lambda name: importlib.import_module(f"edge_client.{name}")


def test_a_generated_python_client(edge_client, url):
    """Texts and an uploaded image, ranking and classification, by functions whose names say it."""
    models, types = edge_client("models"), edge_client("types")
    embeddings, scores = "api.embeddings", "api.ranking_and_classification"
    with edge_client("client").Client(base_url=url) as client:

        def call(name, body):
            return edge_client(name).sync(client=client, body=body)

        def file():
            return types.File(io.BytesIO(PIZZA), file_name="pizza.png", mime_type="image/png")

        texts = call(f"{embeddings}.create_embeddings", models.EmbeddingsRequest(input_=["pizza", IMAGE]))
        assert [item.embedding for item in texts.data] == [vector_of(url, "pizza"), vector_of(url, IMAGE)]
        files = call(f"{embeddings}.create_embeddings_of_files", models.EmbeddingsForm(file=[file()]))
        assert files.data[0].embedding == vector_of(url, IMAGE)
        ranked = call(f"{scores}.rank", models.RankRequest(query=IMAGE, candidates=LABELS))
        assert ranked.results[0].rankings[0].candidate == "pizza"
        named = call(f"{scores}.classify", models.ClassifyRequest(image=IMAGE, labels=LABELS))
        form = models.ClassifyForm(file=file(), labels=LABELS)
        assert named.classifications == call(f"{scores}.classify_file", form).classifications
        assert named.classifications[0].label == "pizza"
        refused = call(f"{embeddings}.create_embeddings", models.EmbeddingsRequest(input_="pizza", model="other"))
        assert isinstance(refused, models.ErrorAnswer)
        assert refused.error.code == "model_not_found"


def test_every_module_of_the_python_client_imports(edge_client, url):
    """A function per operation, in a module per tag."""
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    for operation in (operation for item in paths.values() for operation in item.values()):
        tag = operation["tags"][0].replace(" ", "_").replace(".", "_")
        assert callable(edge_client(f"api.{tag}.{operation['operationId']}").sync_detailed)
