"""`GET /health`: the fields that clients of siglip2-api read, and 503 whenever the server is not ready."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import falcon.testing
import pytest

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO
from siglip_edge.runtime.machine.gpu import Gpu
from siglip_edge.server.app import create_app
from siglip_edge.server.config.settings import Settings
from tests.server.conftest import data_uri, png


def health(client, status=200):
    answer = client.simulate_get("/health")
    assert answer.status_code == status
    return answer.json


def embed(client, given):
    assert client.simulate_post("/v1/embeddings", json={"input": given}).status_code == 200


class TestFieldsOfSiglip2Api:
    def test_a_ready_server_is_healthy_by_their_names(self, client_of, fake):
        """Every field of their README's two example answers, with this server's values."""
        body = health(client_of(BATCH_WAIT_TIME_MS="50", MAX_QUEUE_SIZE="1000", MAX_CONCURRENT_BATCHES="6"))
        assert (body["status"], body["model_loaded"], body["device"]) == ("healthy", True, "cpu")
        assert {name: body["hardware"][name] for name in ("has_gpu", "gpu_name", "gpu_memory_gb", "device_type")} == {
            "has_gpu": False,
            "gpu_name": None,
            "gpu_memory_gb": None,
            "device_type": "cpu",
        }
        assert body["hardware"]["cpu_cores"] == body["cpu_count"]
        batches = body["batch_processing"]
        assert (batches["enabled"], batches["auto_scaling"]) == (True, False)
        assert (batches["max_concurrent_batches"], batches["batch_wait_time_ms"]) == (6, 50)
        assert (batches["queue_size"], batches["max_queue_size"]) == (0, 1000)
        assert (batches["active_workers"], batches["total_workers"]) == (0, 2)

    def test_both_places_of_a_number_agree(self, client):
        """Numbers that stood at the top stay there, equal to those of batch_processing."""
        body = health(client)
        shared = set(body) & set(body["batch_processing"])
        assert shared == {
            "batch_size",
            "batch_wait_time_ms",
            "cpu_count",
            "queue_size",
            "max_queue_size",
            "active_workers",
            "total_workers",
        }
        assert all(body[name] == body["batch_processing"][name] for name in shared)

    def test_one_row_per_run_is_no_batching(self, client_of):
        assert health(client_of(BATCH_SIZE="1"))["batch_processing"]["enabled"] is False

    def test_images_per_second_are_measured(self, client):
        """Null before the first image, whatever texts ran; then the lane's own rate, as a string like theirs."""
        embed(client, "a cat")
        before = health(client)["performance_estimates"]
        assert before == {"images_per_second": None, "note": "no image has run yet; the first one is measured"}
        embed(client, data_uri(png()))
        body = health(client)
        (rate,) = [lane["rows_per_second"] for lane in body["models"][0]["lanes"] if lane["tower"] == "vision"]
        assert float(body["performance_estimates"]["images_per_second"]) == pytest.approx(rate, abs=0.06)
        assert "measured" in body["performance_estimates"]["note"]

    def test_a_server_of_texts_has_no_rate_of_images(self, client_of, fake):
        fake.towers = (Tower.TEXT,)
        estimates = health(client_of())["performance_estimates"]
        assert estimates == {"images_per_second": None, "note": "the default model embeds texts only"}

    @pytest.mark.parametrize(
        ("provider", "options", "shown"),
        [
            (CPU, {}, ("cpu", "cpu", False)),
            (CUDA, {"device_id": "0"}, ("cuda", "cuda", True)),
            (CUDA, {"device_id": "1"}, ("cuda:1", "cuda", True)),
            (OPENVINO, {"device_type": "CPU"}, ("openvino", "cpu", False)),
            (OPENVINO, {"device_type": "GPU.0"}, ("openvino:GPU.0", "gpu", True)),
            (OPENVINO, {"device_type": "NPU"}, ("openvino:NPU", "npu", False)),
        ],
    )
    def test_the_device_is_the_plans(self, client_of, fake, provider, options, shown):
        """A GPU in the machine that the plan does not use is none."""
        fake.plan = replace(fake.plan, provider=provider, provider_options=options)
        body = health(client_of())
        assert (body["device"], body["hardware"]["device_type"], body["hardware"]["has_gpu"]) == shown

    def test_a_gpu_of_cuda_has_the_drivers_name_and_memory(self, client_of, fake, monkeypatch):
        """The GPU is asked for by the number that the plan uses."""
        gpus = {1: Gpu("NVIDIA GeForce RTX 3060", 12 << 30)}
        monkeypatch.setattr("siglip_edge.server.faces.operations.health.read_gpu", gpus.get)
        fake.plan = replace(fake.plan, provider=CUDA, provider_options={"device_id": "1"})
        hardware = health(client_of())["hardware"]
        assert (hardware["gpu_name"], hardware["gpu_memory_gb"]) == ("NVIDIA GeForce RTX 3060", 12.0)


class TestNotReady:
    """503 with the facts and the error: a probe reads the status, a person the rest."""

    def test_while_a_tower_loads(self, client_of, fake):
        """The status is the reason; Retry-After says when to ask again."""
        fake.loading = Future()
        answer = client_of().simulate_get("/health")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert answer.json["status"] == answer.json["error"]["message"] == "a tower of model tiny is loading"
        assert (answer.json["error"]["type"], answer.json["error"]["code"]) == ("server_error", "not_ready")
        assert answer.json["batch_processing"]["total_workers"] == 2
        fake.loading.set_result(None)
        assert "error" not in health(client_of())

    def test_while_the_server_stops(self, fake):
        """Requests that were admitted are still answered, but a load balancer sends no more."""
        client = falcon.testing.TestClient(create_app(Settings.from_env({}), fake, is_stopping=lambda: True))
        body = health(client, 503)
        assert body["status"] == "the server is shutting down"
        assert body["model_loaded"] is True
        assert client.simulate_get("/health/live").status_code == 200
