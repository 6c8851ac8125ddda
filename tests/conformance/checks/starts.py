"""Servers that are started with settings of the predecessors' documents."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conformance.servers import MODEL, PIZZA, Servers, Site, cosine, picture
from tests.server.conftest import wait_until


def serves(servers: Servers, *environ: str) -> None:
    """A start with these variables answers a text and a picture."""
    _with(servers, environ).vectors("pizza", picture())


def health_is(servers: Servers, path: str, value: str, *environ: str) -> None:
    """A start with these variables shows this value in /health."""
    found = _with(servers, environ).health()
    for name in path.split("."):
        found = found[name]
    assert json.dumps(found) == json.dumps(json.loads(value)), f"{path} is {found!r}"


def status_is(servers: Servers, status: str, path: str, *environ: str) -> None:
    """A GET of this path is answered with this status."""
    assert _with(servers, environ).get(path).status_code == int(status)


def refused(servers: Servers, sentence: str, *environ: str) -> None:
    """A start with these variables ends with an error that has these words."""
    log = servers.refused(**_pairs(environ))
    assert sentence in log, log[-500:]
    assert "Traceback" not in log


def log_has(servers: Servers, words: str, *environ: str) -> None:
    """After a request the log has each of these words, which stand between commas."""
    site = _with(servers, environ)
    site.vectors("pizza")
    missing = [word for word in words.split(",") if word not in site.log]
    assert not missing, f"the log has no {', '.join(missing)}: {site.log[-500:]}"


def affinity(servers: Servers) -> None:
    """With one core of the machine, one core is used."""
    assert servers.get(inside=("taskset", "-c", "0")).health()["hardware"]["cpu_cores"] == 1


def rows_share_runs(servers: Servers, *environ: str) -> None:
    """Eight texts at once need fewer runs than eight."""
    site = _with(servers, environ or ("BATCH_WAIT_TIME_MS=50",))
    site.vectors(os.urandom(4).hex())  # a series is born with its first event
    before = site.metric("embedding_batch_rows_count"), site.metric("embedding_batch_rows_sum")
    assert site.at_once([{"input": f"text {n} {os.urandom(4).hex()}"} for n in range(8)]) == [200] * 8
    runs, rows = (
        site.metric("embedding_batch_rows_count") - before[0],
        site.metric("embedding_batch_rows_sum") - before[1],
    )
    assert rows == 8
    assert runs < 8


def runs_alone(servers: Servers, *environ: str) -> None:
    """Eight texts at once are eight runs: batching is off."""
    site = _with(servers, environ)
    site.vectors(os.urandom(4).hex())  # a series is born with its first event
    before = site.metric("embedding_batch_rows_count")
    assert site.at_once([{"input": f"text {n} {os.urandom(4).hex()}"} for n in range(8)]) == [200] * 8
    assert site.metric("embedding_batch_rows_count") - before == 8


def spike(servers: Servers) -> None:
    """300 requests at once wait and are answered, each with 200."""
    site = servers.get(MAX_QUEUE_SIZE="5000", QUEUE_OVERFLOW_ACTION="wait")
    statuses = site.at_once([{"input": f"spike {n}"} for n in range(300)])
    assert statuses == [200] * 300, {status: statuses.count(status) for status in set(statuses)}


def overflow(servers: Servers, action: str) -> None:
    """A queue of 8 rows: `reject` answers some of 60 requests with 429, `wait` answers all with 200."""
    site = servers.get(MAX_QUEUE_SIZE="8", MAX_BATCH_SIZE="8", QUEUE_OVERFLOW_ACTION=action)
    bodies = [{"input": [f"{os.urandom(4).hex()} {n} {k}" for k in range(4)]} for n in range(60)]
    statuses = set(site.at_once(bodies))
    assert statuses == ({200, 429} if action == "reject" else {200}), statuses


def deadline(servers: Servers) -> None:
    """A request that waits longer than REQUEST_TIMEOUT is answered with 504."""
    site = servers.get(REQUEST_TIMEOUT="0.2", BATCH_WAIT_TIME_MS="1000")
    site.error("/v1/embeddings", {"input": "x"}, status=504)


def alias(servers: Servers, name: str) -> None:
    """A model's name of the documents is answered when ALIASES maps it, and 404 without."""
    servers.get().error("/v1/embeddings", {"input": "x", "model": name}, status=404)
    servers.get(ALIASES=f"{name}=emoji-siglip").vectors("x", model=name)


def paths(servers: Servers) -> None:
    """Below IMAGE_ROOT, a path is its picture on every route; without IMAGE_ROOT it is a 400, never a text."""
    site = servers.get(IMAGE_ROOT=str(PIZZA.parent))
    name = PIZZA.name
    image, path = site.vectors(picture(), name)
    assert cosine(image, path) > 0.9999
    answer = site.ok("/v1/rank", {"query": "a pizza", "candidates": [name, "twemoji--cactus.png"]})
    assert answer["results"][0]["rankings"][0]["index"] == 0
    assert (
        site.ok("/v1/classify", {"image": name, "labels": ["rocket", "pizza"]})["classifications"][0]["label"]
        == "pizza"
    )
    site.error("/v1/embeddings", {"input": "nowhere.png"}, status=400)
    servers.get().error("/v1/embeddings", {"input": name}, status=400)


def urls(servers: Servers) -> None:
    """URLs are refused with the remedy; with ALLOW_IMAGE_URLS and the host in IMAGE_URL_HOSTS they are fetched."""
    text = servers.get().error("/v1/embeddings", {"input": "https://example.com/image.jpg"}, status=400)
    assert "ALLOW_IMAGE_URLS" in text
    with _pictures() as host:
        site = servers.get(ALLOW_IMAGE_URLS="true", IMAGE_URL_HOSTS=host)
        url = f"http://{host}/{PIZZA.name}"
        image, _, fetched = site.vectors(picture(), "a cat", url)
        assert cosine(image, fetched) > 0.9999
        (item,) = site.ok("/v1/embeddings/image", files={"input": (None, url)})["data"]
        assert cosine(image, item["embedding"]) > 0.9999
        assert (
            site.ok("/v1/rank", {"query": url, "candidates": ["rocket", "pizza"]})["results"][0]["rankings"][0]["index"]
            == 1
        )
        assert site.ok("/v1/rank", {"query": "pizza", "candidates": [url]})["results"]
        assert (
            site.ok("/v1/classify", {"image": url, "labels": ["rocket", "pizza"]})["classifications"][0]["label"]
            == "pizza"
        )


def hub_id(servers: Servers) -> None:
    """SIGLIP_MODEL=google/x finds the exported directory x; without one the sentence has the export command."""
    servers.get(SIGLIP_MODEL="google/emoji-siglip").vectors("x")
    refused(
        servers, "siglip-edge export google/siglip2-base-patch16-512", "SIGLIP_MODEL=google/siglip2-base-patch16-512"
    )


def two_models(servers: Servers) -> None:
    """MODELS names two; both are ready at the start, answer by name, and a third name is 404."""
    site = servers.get(MODELS=f"fast={MODEL},accurate={MODEL}")
    wait_until(lambda: all(model["status"] == "ready" for model in site.health()["models"]))
    assert {model["id"] for model in site.get("/v1/models").json()["data"]} == {"fast", "accurate"}
    site.vectors("x", model="fast")
    site.vectors("x", model="accurate")
    site.error("/v1/embeddings", {"input": "x", "model": "best"}, status=404)


def profiles(servers: Servers) -> None:
    """`model_config_name` chooses one of two models called fast and accurate."""
    site = servers.get(MODELS=f"fast={MODEL},accurate={MODEL}")
    for name in ("fast", "accurate"):
        body = {"image_input": picture(), "text_prompt": "pizza", "model_config_name": name}
        site.ok("/evaluator/v1/evaluation/single", body)


def corrupt_model(servers: Servers) -> None:
    """A second model that cannot be loaded ends the start."""
    folder = servers.folder / "models"
    if not folder.exists():
        folder.mkdir()
        shutil.copytree(MODEL, folder / "good")
        broken = shutil.copytree(MODEL, folder / "corrupt")
        (broken / "text_int8.onnx").write_bytes(b"\0" * (MODEL / "text_int8.onnx").stat().st_size)
    log = servers.refused(MODELS="good,corrupt", MODELS_DIR=str(folder), PRECISION="int8", PREPARE="false")
    assert "sha256 differs" in log, log[-500:]


def flags(servers: Servers) -> None:
    """`--models` and `--device` of the command line."""
    with _serving(servers, "--models", f"a={MODEL},b={MODEL}", "--device", "cpu") as site:
        assert {model["id"] for model in site.get("/v1/models").json()["data"]} == {"a", "b"}


def catalogue(servers: Servers) -> None:
    """`--config`: a catalogue of models in YAML, from which MODELS chooses."""
    path = servers.folder / "catalogue.yaml"
    path.write_text(f"models:\n  - name: emoji\n    hf_repo_id: {MODEL}\n  - name: other\n    hf_repo_id: x/other\n")
    with _serving(servers, "--config", str(path), "--models", "emoji") as site:
        assert [model["id"] for model in site.get("/v1/models").json()["data"]] == ["emoji"]


def dotenv(servers: Servers) -> None:
    """`.env` in the working directory is read, and does not override the environment."""
    with _serving(servers, dotenv="BATCH_SIZE=5\nMAX_TEXT_CHARS=99\n", MAX_TEXT_CHARS="50") as site:
        assert site.health()["batch_processing"]["batch_size"] <= 5
        site.error("/v1/embeddings", {"input": "x" * 60}, status=400)


def gunicorn_command(servers: Servers) -> None:
    """`gunicorn -c server/gunicorn.conf.py …` is replaced by `siglip-edge serve`, which is gunicorn: a parent, a worker."""
    site = servers.get(WORKERS="2")
    children = Path(f"/proc/{site.server.process.pid}/task/{site.server.process.pid}/children").read_text().split()
    assert len(children) == 2


def killed_worker(servers: Servers) -> None:
    """A worker that dies is replaced."""
    site = servers.get(WORKERS="2")
    children = Path(f"/proc/{site.server.process.pid}/task/{site.server.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists())
    wait_until(site.server.is_ready)
    site.vectors("x")


def ready_within(servers: Servers, seconds: str) -> None:
    """The log says in how many seconds the model was ready; a server was started before, so the graphs are packed."""
    site = servers.get()
    match = re.search(r"ready in ([\d.]+) s", site.log)
    assert match, site.log[-500:]
    assert float(match[1]) < float(seconds), match[0]


def cached(servers: Servers, hits: str, *environ: str) -> None:
    """Three equal requests with these variables: so many come from the cache."""
    site = _with(servers, environ)
    before = site.metric("embedding_cache_hits_total")
    for _ in range(3):
        site.vectors("the same text")
    assert site.metric("embedding_cache_hits_total") - before == float(hits)


def idle_unload(servers: Servers) -> None:
    """TOWERS=text serves texts alone; IDLE_UNLOAD_S gives a tower's memory back and loads it again."""
    site = servers.get(IDLE_UNLOAD_S="1", TOWERS="text")
    site.vectors("x")
    site.error("/v1/embeddings", {"input": picture()}, status=400)


def _pairs(environ: tuple[str, ...]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in environ)


def _with(servers: Servers, environ: tuple[str, ...]) -> Site:
    return servers.get(**_pairs(environ))


@contextlib.contextmanager
def _serving(servers: Servers, *arguments: str, dotenv: str = "", **environ: str) -> Iterator[Site]:
    """`siglip-edge serve` with arguments, and with this `.env` in its working directory."""
    server = servers.start(environ, arguments=arguments, dotenv=dotenv)
    try:
        wait_until(server.is_ready)
        yield Site(server)
    finally:
        if server.process.poll() is None:
            server.stop()


@contextlib.contextmanager
def _pictures() -> Iterator[str]:
    """A web server of pictures on the loopback network. -> its host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = (PIZZA.parent / Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
