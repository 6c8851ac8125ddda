"""`siglip-edge serve` as a user starts it: a real gunicorn, a real client, real graphs."""

from __future__ import annotations

import base64
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.server.conftest import ROOT, data_uri, png, wait_until
from tests.tiny_text_model import write_clip, write_text_encoder


@pytest.fixture(scope="module")
def server(start, tiny_dir):
    return start(MODEL=str(tiny_dir))


def post(server, body):
    request = urllib.request.Request(
        f"{server.url}/v1/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_official_client_gets_the_same_bits_as_plain_json(server):
    """OpenAI's client requests base64 by default; its vectors equal those of a plain request."""
    inputs = ["a cat", data_uri(png())]
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    theirs = client.embeddings.create(model="tiny", input=inputs)
    plain = post(server, {"input": inputs})
    encoded = post(server, {"input": inputs, "encoding_format": "base64"})
    exact = np.array([item["embedding"] for item in plain["data"]], np.float32)
    assert np.array_equal(np.array([item.embedding for item in theirs.data], np.float32), exact)
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in encoded["data"]]
    assert np.array_equal(np.array(decoded), exact)
    client.close()


def test_three_families_by_the_official_client(start, tiny_dir, tmp_path_factory):
    """A SigLIP, a text encoder and a CLIP in one server; a prompt goes as a field that the client does not know."""
    folder = tmp_path_factory.mktemp("models")
    texts, clip = write_text_encoder(folder / "texts"), write_clip(folder / "clip")
    server = start(MODELS=f"photos={tiny_dir},texts={texts},clip={clip}")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["photos", "texts", "clip"]
        asked, written = (
            client.embeddings.create(model="texts", input=text, extra_body=more).data[0].embedding
            for text, more in (("a cat", {"input_type": "query"}), ("q: a cat", {}))
        )
        assert asked == written
        for model in ("photos", "clip"):
            assert len(client.embeddings.create(model=model, input=[data_uri(png()), "a cat"]).data) == 2
        with pytest.raises(openai.BadRequestError, match=r"texts embeds texts only, no images; .*: photos, clip"):
            client.embeddings.create(model="texts", input=data_uri(png()))


def test_sixty_four_clients_get_their_own_answers(server):
    """With concurrent clients, every answer equals the answer to the same request alone."""
    inputs = [f"text {n}" if n % 2 else data_uri(png((n * 3, 255 - n, n))) for n in range(64)]
    answers: dict[int, list[float]] = {}

    def ask(number: int) -> None:
        answers[number] = post(server, {"input": inputs[number]})["data"][0]["embedding"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    alone = [item["embedding"] for item in post(server, {"input": inputs})["data"]]
    assert [answers[number] for number in range(64)] == alone
    assert len({tuple(vector) for vector in alone}) == 64


def test_sigterm_drains(start, tiny_dir):
    """On SIGTERM a request that is being read is still answered, and the server ends with status 0."""
    server = start(MODEL=str(tiny_dir), LOG_LEVEL="debug")
    body = json.dumps({"input": "a cat"}).encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b"100" in connection.recv(100)  # a thread holds the request now
        server.process.terminate()
        wait_until(lambda: "Handling signal: term" in server.log.read_text())
        connection.sendall(body)
        assert b"200 OK" in connection.recv(1000)
    assert server.process.wait(60) == 0


def test_a_draining_worker_is_not_ready(start, tiny_dir):
    """After SIGTERM the readiness probe answers 503 on a kept connection, and admitted work is still answered."""
    server = start(MODEL=str(tiny_dir))
    body = json.dumps({"input": "a cat"}).encode()
    probe = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def status():
        probe.request("GET", "/health/ready")
        answer = probe.getresponse()
        answer.read()
        return answer.status

    assert status() == 200
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection, closing(probe):
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b"100" in connection.recv(100)
        server.process.terminate()
        wait_until(lambda: status() == 503)
        connection.sendall(body)
        assert b"200 OK" in connection.recv(1000)


def test_a_broken_model_ends_the_start_with_one_sentence(tmp_path, tiny_dir):
    """A corrupt artifact ends the server, and the log names the remedy."""
    broken = shutil.copytree(tiny_dir, tmp_path / "broken")
    (broken / "text_int8.onnx").write_bytes(b"\0" * (tiny_dir / "text_int8.onnx").stat().st_size)
    run = subprocess.run(
        [sys.executable, "-c", "from siglip_edge.cli.main import main; main()", "serve", str(broken), "--port", "0"],
        cwd=ROOT, env={**os.environ, "CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode != 0
    assert "sha256 differs from the manifest; run the export again" in run.stderr


def test_the_parent_holds_no_numerics(server):
    """gunicorn's parent has neither numpy nor onnxruntime mapped: it stays small, and nothing is built before fork."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" not in maps
    assert "numpy" not in maps


def test_a_server_of_texts_alone_never_loads_pillow(start, tiny_dir):
    server = start(MODEL=str(tiny_dir), TOWERS="text")
    assert post(server, {"input": "a cat"})["data"]
    (worker,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    maps = Path(f"/proc/{worker}/maps").read_text()
    assert "onnxruntime" in maps
    assert "PIL" not in maps


def test_a_killed_worker_is_replaced(server):
    """When a worker dies, a new one takes over and answers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    before = post(server, {"input": "a cat"})
    os.kill(int(children[0]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists())
    wait_until(server.is_ready)
    assert post(server, {"input": "a cat"}) == before


def get(server, path):
    with urllib.request.urlopen(f"{server.url}{path}", timeout=60) as answer:
        return answer.read().decode()


def counted(server, sample):
    """The value of one sample of /metrics; 0 when it is not there."""
    lines = [line for line in get(server, "/metrics").splitlines() if line.startswith(sample)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_metrics_add_up_across_workers_and_restarts(start, tiny_dir):
    """Each worker reports the sum over all workers; a killed worker's counters stay and its gauges go."""
    server = start(MODEL=str(tiny_dir), WORKERS="2")
    sample = 'http_requests_total{face="openai",method="POST",route="/v1/embeddings",status="200"}'
    wait_until(lambda: counted(server, "workers ") == 2)
    for number in range(20):
        post(server, {"input": f"text {number}"})
    assert counted(server, sample) == 20
    assert {counted(server, sample) for _ in range(10)} == {20}
    victim = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()[0]
    os.kill(int(victim), signal.SIGKILL)
    wait_until(lambda: f'pid="{victim}"' not in get(server, "/metrics"))
    wait_until(lambda: counted(server, "workers ") == 2)
    assert counted(server, sample) == 20


def test_a_caller_that_hangs_up_costs_nothing_more(start, tiny_dir):
    """Work whose caller has closed the connection is dropped before it is computed."""
    server = start(MODEL=str(tiny_dir), BATCH_WAIT_TIME_MS="1000", MAX_CONCURRENT_BATCHES="1")
    before = counted(server, 'embedding_batch_rows_sum{model="tiny",tower="vision"}')
    pile = [data_uri(png((n, n % 7, n % 11), size=(500, 500))) for n in range(20)]
    body = json.dumps({"input": pile}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(head.encode() + body)
    wait_until(lambda: counted(server, 'http_requests_total{face="openai",method="POST",route="/v1/embeddings"') == 1)
    assert counted(server, 'embedding_batch_rows_sum{model="tiny",tower="vision"}') - before < len(pile)


def test_a_caller_that_stops_sending_gets_408(running, tiny_dir):
    """Headers without their body do not hold a thread beyond REQUEST_TIMEOUT."""
    server = running(MODEL=str(tiny_dir), REQUEST_TIMEOUT="0.5")
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b"408" in connection.recv(1000)


@pytest.mark.parametrize(
    ("length", "piece"), [("Content-Length: 100000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")]
)
def test_a_caller_that_sends_a_byte_now_and_then_gets_408(running, tiny_dir, length, piece):
    """REQUEST_TIMEOUT is for the whole body, not for each piece of it."""
    server = running(MODEL=str(tiny_dir), REQUEST_TIMEOUT="0.5")
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        for _ in range(400):
            connection.sendall(piece)
            if select.select([connection], [], [], 0.05)[0]:
                break
        else:
            pytest.fail("no answer within twenty seconds")
        assert b"408" in connection.recv(1000)


def test_a_malformed_chunk_is_a_400(server):
    """An invalid chunk size gets a 400."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(f"{head}nonsense\r\n{{}}\r\n0\r\n\r\n".encode())
        assert b"400" in connection.recv(1000)


def test_a_chunked_body_is_read_within_the_limit(start, tiny_dir):
    """A body without a length is read to its end, and refused beyond MAX_BODY_BYTES."""
    server = start(MODEL=str(tiny_dir), MAX_BODY_BYTES="1000")

    def chunked(text):
        body = json.dumps({"input": text}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request(
            "POST",
            "/v1/embeddings",
            iter([body[:10], body[10:]]),
            {"Content-Type": "application/json"},
            encode_chunked=True,
        )
        status = connection.getresponse().status
        connection.close()
        return status

    assert chunked("a cat") == 200
    assert chunked("x" * 2000) == 413
