"""Features for operators: keys, CORS, logs, metrics, several models, readiness, admission."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import Future

import falcon.testing
import msgspec
import numpy as np
import pytest

from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.checks.selftest import GoldenRow, save_golden
from siglip_edge.runtime.errors import ArtifactCorrupt, ManifestInvalid, ProviderUnavailable
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import PlannedModel
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid
from siglip_edge.server.observability import logs
from tests.server.conftest import data_uri, loading_app, png, wait_until
from tests.tiny_model import add_precision, collapse, write_model


def ask(client, given="a cat", **arguments):
    return client.simulate_post("/v1/embeddings", json={"input": given}, **arguments)


class TestKeys:
    """API_KEYS and API_KEYS_FILE."""

    def test_one_of_the_keys_is_asked_for(self, client_of, tmp_path):
        """Without a key or with a wrong one: 401 in OpenAI's shape; with any of the keys: the answer."""
        (tmp_path / "keys").write_text("from-file\n\n")
        client = client_of(API_KEYS="first, second", API_KEYS_FILE=str(tmp_path / "keys"))
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic first"},
            {"Authorization": "Bearer"},
        ):
            answer = ask(client, headers=header)
            assert (answer.status_code, answer.json["error"]["type"]) == (401, "authentication_error")
            assert answer.json["error"]["code"] == "invalid_api_key"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for key in ("first", "second", "from-file"):
            assert ask(client, headers={"Authorization": f"Bearer {key}"}).status_code == 200

    def test_what_is_open(self, client_of):
        """Probes answer without a key, models do not; metrics as PROTECT_METRICS says."""
        client = client_of(API_KEYS="first")
        status = {
            path: client.simulate_get(path).status_code
            for path in ("/health", "/health/ready", "/metrics", "/v1/models")
        }
        assert status == {"/health": 200, "/health/ready": 200, "/metrics": 200, "/v1/models": 401}
        assert client_of(API_KEYS="first", PROTECT_METRICS="true").simulate_get("/metrics").status_code == 401

    def test_an_empty_key_file_is_not_an_open_server(self, client_of, tmp_path):
        """A key file without a key, or missing, stops the start."""
        (tmp_path / "keys").touch()
        for name in ("keys", "missing"):
            with pytest.raises(SettingsInvalid, match="API_KEYS_FILE"):
                client_of(API_KEYS_FILE=str(tmp_path / name))


class TestCors:
    """CORS_ALLOW_ORIGINS."""

    def test_off_unless_listed(self, client_of):
        """No CORS header by default; with a list only its origins get one."""
        origin = {"Origin": "https://a.example"}
        assert "Access-Control-Allow-Origin" not in ask(client_of(), headers=origin).headers
        client = client_of(CORS_ALLOW_ORIGINS="https://a.example")
        assert ask(client, headers=origin).headers["Access-Control-Allow-Origin"] == "https://a.example"
        other = ask(client, headers={"Origin": "https://b.example"})
        assert "Access-Control-Allow-Origin" not in other.headers

    def test_a_preflight_needs_no_key(self, client_of):
        """A preflight request of a browser needs no key."""
        client = client_of(CORS_ALLOW_ORIGINS="*", API_KEYS="first")
        preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        answer = client.simulate_options("/v1/embeddings", headers=preflight)
        assert answer.status_code == 200
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]


class TestLogs:
    """The access log and its JSON form."""

    def test_one_line_a_request_without_any_input(self, client, caplog):
        """Method, route, status, time and id; neither body, nor query, nor an unknown path."""
        with caplog.at_level(logging.INFO, "siglip_edge.access"):
            ask(client, "a secret sentence", headers={"X-Request-ID": "abc"}, query_string="also=secret")
            client.simulate_get("/secret/path")
        first, second = caplog.messages
        assert first.startswith("POST /v1/embeddings 200 ")
        assert first.endswith("id=abc")
        assert second.startswith("GET (no route) 404 ")
        assert "secret" not in "".join(caplog.messages)

    def test_errors_log_no_input(self, client, fake, caplog):
        """A failed run logs its cause and the request id, not what was sent."""
        fake.failure = RuntimeError("the cause")
        ask(client, "a secret sentence", headers={"X-Request-ID": "abc"})
        assert "request abc failed" in caplog.text
        assert "the cause" in caplog.text
        assert "secret" not in caplog.text

    def test_json_lines(self):
        """LOG_FORMAT=json: one object per line, with the request id as a field and the exception as text."""
        record = logging.LogRecord("siglip_edge", logging.INFO, "", 0, "a %s", ("word",), None)
        record.request_id = "abc"
        line = json.loads(logs.JsonFormatter().format(record))
        assert (line["level"], line["message"], line["request_id"]) == ("info", "a word", "abc")


class TestMetrics:
    """`GET /metrics`."""

    def sample(self, client, name):
        lines = client.simulate_get("/metrics").text.splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith(name)]
        assert len(values) == 1, (name, values)
        return float(values[0])

    def test_what_is_counted(self, client):
        """Requests by route and status, stages, batches by tower, cache, model info, memory."""
        ask(client, ["a cat", "a cat", data_uri(png())])
        ask(client, "")
        assert (
            self.sample(client, 'http_requests_total{face="openai",method="POST",route="/v1/embeddings",status="200"}')
            == 1
        )
        assert (
            self.sample(client, 'http_requests_total{face="openai",method="POST",route="/v1/embeddings",status="400"}')
            == 1
        )
        assert self.sample(client, 'embedding_cache_hits_total{model="tiny"}') == 1
        assert self.sample(client, 'embedding_cache_misses_total{model="tiny"}') == 2
        assert self.sample(client, 'embedding_batch_rows_sum{model="tiny",tower="text"}') == 1
        assert self.sample(client, 'embedding_batch_duration_seconds_count{model="tiny",tower="vision"}') == 1
        assert self.sample(client, 'embedding_stage_duration_seconds_count{stage="decode",tower="vision"}') == 1
        assert self.sample(client, "embedding_model_info{") == 1
        assert self.sample(client, "worker_resident_bytes") > 1 << 20

    def test_every_series_of_a_model_begins_at_zero(self, client):
        """So that its first event is an increase for Prometheus."""
        of_lane = '{model="tiny",tower="text"}'
        for name in (
            f"embedding_batch_rows_count{of_lane}", f"embedding_failed_batches_total{of_lane}",
            f"embedding_queue_rows{of_lane}", 'embedding_cache_hits_total{model="tiny"}',
            'embedding_rejections_total{reason="overloaded"}',
        ):  # fmt: skip
            assert self.sample(client, name) == 0

    def test_rejections_are_counted_by_reason(self, client_of, fake):
        """A request out of time counts as a deadline."""
        client = client_of(REQUEST_TIMEOUT="0.1")
        fake.gate.clear()
        assert ask(client).status_code == 504
        fake.gate.set()
        assert self.sample(client, 'embedding_rejections_total{reason="deadline"}') == 1

    @pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
    def test_methods_of_the_callers_own_are_counted_under_one_name(self, client):
        """Unknown methods share one label, because every label stays in memory."""
        for method in ("BREW", "WHEN"):
            client.simulate_request(method, "/health/live")
        counted = client.simulate_get("/metrics").text
        assert "BREW" not in counted
        assert 'http_requests_total{face="operations",method="(unknown)"' in counted

    def test_metrics_can_be_off(self, client_of):
        """ENABLE_METRICS=false: no such route."""
        assert client_of(ENABLE_METRICS="false").simulate_get("/metrics").status_code == 404


class TestModels:
    """MODELS: real directories, loaded by the app itself."""

    def test_each_has_its_own_vectors_and_space(self, two):
        """The second model is loaded at the start too, and answers in its own space."""
        wait_until(lambda: two.simulate_get("/health/ready").status_code == 200)
        assert [model["status"] for model in two.simulate_get("/health").json["models"]] == ["ready", "ready"]
        answers = {
            name: two.simulate_post("/v1/embeddings", json={"input": "a cat", "model": name})
            for name in ("fast", "accurate")
        }
        assert {name: answer.headers["X-Embedding-Space"] for name, answer in answers.items()} == {
            "fast": "space-a",
            "accurate": "space-b",
        }
        assert answers["fast"].json["data"] != answers["accurate"].json["data"]
        assert answers["accurate"].json["model"] == "accurate"

    def test_the_first_is_the_default_and_others_are_404(self, two):
        """No model named: the first one; an unknown name: 404."""
        assert ask(two).json["model"] == "fast"
        assert two.simulate_post("/v1/embeddings", json={"input": "x", "model": "a"}).status_code == 404
        assert [card["id"] for card in two.simulate_get("/v1/models").json["data"]] == ["fast", "accurate"]

    def test_a_space_holds_for_the_model_asked(self, two):
        """Another model's space is a 409."""
        body = {"input": "x", "model": "accurate", "expect_space": "space-a"}
        assert two.simulate_post("/v1/embeddings", json=body).status_code == 409

    def test_what_is_known_before_loading_stops_the_start(self, tmp_path, tiny_dir):
        """No manifest, or a device that is not here: create_app raises."""
        with pytest.raises(ManifestInvalid, match="siglip-edge export CHECKPOINT"):
            create_app(Settings.from_env({"MODEL": str(tmp_path)}))
        with pytest.raises(ProviderUnavailable, match="device 'cuda'"):
            create_app(Settings.from_env({"MODEL": str(tiny_dir), "DEVICE": "cuda"}))

    def test_a_model_that_cannot_be_loaded_is_told_once(self, tmp_path):
        """A corrupt file: the failure callback gets the sentence, readiness and embedding stay 503."""
        directory = write_model(tmp_path / "broken")
        (directory / "vocabulary_int8.bin").write_bytes(b"short")
        told: list[str] = []
        app = loading_app(told, MODEL=str(directory))
        wait_until(lambda: bool(told))
        client = falcon.testing.TestClient(app)
        assert "run the export again" in told[0]
        for answer in (client.simulate_get("/health/ready"), ask(client)):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
        assert client.simulate_get("/health/live").status_code == 200


class TestReadiness:
    """`/health/ready` answers 200 only while the server can embed."""

    def test_a_model_that_embeds_wrongly_here_is_not_served(self, tmp_path):
        """The golden rows are embedded before the model counts as loaded; a wrong vector stops the start."""
        directory = write_model(tmp_path / "wrong")
        wrong = GoldenRow(embedding=np.eye(12, dtype=np.float32)[0].tobytes(), text="a golden text")
        save_golden(directory / "golden.bin", [wrong])
        manifest = Manifest.load(directory)
        msgspec.structs.replace(manifest, golden=record_file(directory, directory / "golden.bin")).save(directory)
        told: list[str] = []
        loading_app(told, MODEL=str(directory))
        wait_until(lambda: bool(told))
        assert "the text tower" in told[0]
        assert "is wrong: cosine" in told[0]

    def test_what_embeds_wrongly_here_is_replaced_by_the_next_best(self, tmp_path, caplog):
        """INT8 is wrong, FP32 is right: FP32 is served; /health, /metrics and the log say so, and why."""
        directory = add_precision(write_model(tmp_path / "half-wrong"), Precision.FP32)
        collapse(directory, Precision.INT8)
        with caplog.at_level(logging.INFO, "siglip_edge"):
            app = loading_app([], MODEL=str(directory), DEVICE="cpu")
        client = falcon.testing.TestClient(app)
        assert ask(client).status_code == 200
        (health,) = client.simulate_get("/health").json["models"]
        assert (health["status"], health["precision"]) == ("ready", "fp32")
        (refused,) = health["refused"]
        assert refused.startswith("int8 on CPUExecutionProvider: tiny: the text tower")
        assert [record.levelname for record in caplog.records if refused in record.getMessage()] == ["ERROR"]
        wait_until(lambda: "ready in" in caplog.text)
        assert "fp32 on CPUExecutionProvider" in caplog.messages[-1]
        assert client.simulate_get("/v1/models").json["data"][0]["precision"] == "fp32"
        assert 'precision="fp32"' in client.simulate_get("/metrics").text
        assert 'precision="int8"' not in client.simulate_get("/metrics").text

    def test_a_precision_asked_for_by_name_has_no_replacement(self, tmp_path):
        """PRECISION=int8 is int8 or nothing: the server stops with the sentence, though FP32 is right."""
        directory = add_precision(write_model(tmp_path / "half-wrong"), Precision.FP32)
        collapse(directory, Precision.INT8)
        told: list[str] = []
        loading_app(told, MODEL=str(directory), DEVICE="cpu", PRECISION="int8")
        wait_until(lambda: bool(told))
        assert "the text tower (int8, CPUExecutionProvider) is wrong" in told[0]

    def test_while_loading_everything_but_live_is_503(self, tiny_dir, monkeypatch):
        """A model that takes its time: ready and embedding say so and when to come back, live is 200; then it serves."""
        gate, load = threading.Event(), EmbeddingModel.load
        monkeypatch.setattr(EmbeddingModel, "load", lambda *args, **kwargs: gate.wait(30) and load(*args, **kwargs))
        client = falcon.testing.TestClient(create_app(Settings.from_env({"MODEL": str(tiny_dir), "PREPARE": "false"})))
        for answer in (client.simulate_get("/health"), client.simulate_get("/health/ready"), ask(client)):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert answer.json["error"]["code"] == "not_ready"
        assert client.simulate_get("/health/live").status_code == 200
        assert "is loading" in client.simulate_get("/health").json["status"]
        gate.set()
        wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)
        assert ask(client).status_code == 200

    def test_texts_are_answered_while_the_vision_tower_loads(self, client_of, fake):
        """A model is ready when both towers are loaded; until then the probe says 503, and /health why."""
        fake.loading = Future()
        client = client_of()
        assert ask(client).status_code == 200
        answer = client.simulate_get("/health/ready")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "a tower of model tiny is loading" in client.simulate_get("/health").json["status"]
        fake.loading.set_result(None)
        assert client.simulate_get("/health/ready").status_code == 200

    def test_a_tower_that_fails_late_is_told_and_texts_are_answered_on(self, client_of, fake, tiny_dir, monkeypatch):
        """A tower that fails later calls `on_late_failure`, and the probe answers 503."""
        fake.loading = Future()
        fake.loading.set_exception(ArtifactCorrupt("damaged"))
        client = client_of()
        assert (
            "could not be loaded; the server's log says why"
            in client.simulate_get("/health/ready").json["error"]["message"]
        )
        assert ask(client).status_code == 200
        monkeypatch.setattr(PlannedModel, "open", lambda self, when: fake)
        monkeypatch.setattr(fake, "rest", lambda tower: None, raising=False)
        told: list[str] = []
        loading_app(told, MODEL=str(tiny_dir))
        wait_until(lambda: bool(told))
        assert told == ["late"]

    def test_a_tower_that_finishes_nothing_is_not_ready(self, client, fake, monkeypatch):
        """While work waits and no run ends, the probe answers 503; after a run it answers 200."""
        monkeypatch.setattr("siglip_edge.server.models.served_model._STALL_S", 0.0)
        fake.gate.clear()
        asking = threading.Thread(target=ask, args=(client,))
        asking.start()
        wait_until(lambda: client.simulate_get("/health/ready").status_code == 503)
        assert client.simulate_get("/health/live").status_code == 200
        fake.gate.set()
        asking.join(30)
        wait_until(lambda: client.simulate_get("/health/ready").status_code == 200)


class TestAdmission:
    """Requests beyond the capacity of the server."""

    def test_probes_are_answered_when_every_other_thread_is_taken(self, client_of, fake):
        """More requests than threads: 429 for the next one, 200 for the probe."""
        client = client_of(THREADS="4", BATCH_SIZE="4")
        fake.gate.clear()
        waiting = [threading.Thread(target=ask, args=(client, f"text {n}")) for n in range(2)]
        for thread in waiting:
            thread.start()
        assert fake.entered.acquire(timeout=30)  # one runs, so the other is the row that waits
        wait_until(lambda: client.simulate_get("/health").json["queue_size"] == 1)
        refused = ask(client)
        assert (refused.status_code, refused.json["error"]["code"]) == (429, "overloaded")
        assert (
            1 <= int(refused.headers["Retry-After"]) <= 8
        )  # no backlog is measured yet: a random second of the spread
        assert client.simulate_get("/health/ready").status_code == 200
        fake.gate.set()
        for thread in waiting:
            thread.join(30)
        assert ask(client).status_code == 200

    def test_a_full_queue_can_wait(self, client_of, fake):
        """QUEUE_OVERFLOW_ACTION=wait: requests beyond the queue are answered when there is room."""
        client = client_of(QUEUE_OVERFLOW_ACTION="wait", MAX_QUEUE_SIZE="1", MAX_BATCH_SIZE="1")
        fake.gate.clear()
        statuses: list[int] = []
        waiting = [
            threading.Thread(target=lambda n=n: statuses.append(ask(client, f"text {n}").status_code)) for n in range(8)
        ]
        for thread in waiting:
            thread.start()
        assert fake.entered.acquire(timeout=30)
        fake.gate.set()
        for thread in waiting:
            thread.join(30)
        assert statuses == [200] * 8

    def test_text_goes_before_a_pile_of_images(self, client, fake):
        """A text that arrives behind twenty images is answered before them: at most one image ran in between."""
        fake.gate.clear()
        pile = [data_uri(png((n, n, n))) for n in range(20)]
        images = threading.Thread(target=ask, args=(client, pile))
        images.start()
        assert fake.entered.acquire(timeout=30)
        text = threading.Thread(target=ask, args=(client, "a cat"))
        text.start()
        assert fake.entered.acquire(timeout=30)  # the text's run, while an image's is still held
        fake.gate.set()
        text.join(30)
        images.join(30)
        assert [str(tower) for tower, _ in fake.runs].index("text") == 1

    def test_identical_inputs_in_flight_run_once(self, client, fake):
        """Eight requests with the same text at the same time cost one run."""
        fake.gate.clear()
        waiting = [threading.Thread(target=ask, args=(client, "the same")) for _ in range(8)]
        for thread in waiting:
            thread.start()
        assert fake.entered.acquire(timeout=30)
        fake.gate.set()
        for thread in waiting:
            thread.join(30)
        assert len(fake.runs) == 1


class TestImageRoot:
    """IMAGE_ROOT."""

    def test_paths_below_the_root_and_nothing_else(self, client_of, tmp_path):
        """A path below the root is read; outside of it, through .. or a link, it is as if nothing were there."""
        root = tmp_path / "root"
        (root / "sub").mkdir(parents=True)
        (root / "sub/red.png").write_bytes(png())
        (tmp_path / "outside.png").write_bytes(png())
        (root / "link.png").symlink_to(tmp_path / "outside.png")
        client = client_of(IMAGE_ROOT=str(root))
        assert ask(client, {"image": "sub/red.png"}).json["data"] == ask(client, data_uri(png())).json["data"]
        for path in (
            "../outside.png",
            "link.png",
            str(tmp_path / "outside.png"),
            "sub",
            "missing.png",
            "a\0b",
            "x" * 4000,
        ):
            error = ask(client, {"image": path})
            assert (error.status_code, error.json["error"]["code"]) == (400, "image_not_found"), path
        assert ask(client, "sub/red.png").json["data"] == ask(client, data_uri(png())).json["data"]
