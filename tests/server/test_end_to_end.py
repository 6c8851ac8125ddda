"""`siglip-edge serve` as a user starts it: a real gunicorn, a real client, real graphs."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.server.conftest import ROOT, data_uri, png, wait_until


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
    """openai's client asks for base64 unasked; its vectors equal those of a plain request."""
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


def test_sixty_four_clients_get_their_own_answers(server):
    """Concurrent clients with texts and images mixed: every answer equals the one asked for alone."""
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
    server = start(MODEL=str(tiny_dir))
    body = json.dumps({"input": "a cat"}).encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b"100" in connection.recv(100)  # a thread holds the request now
        server.process.terminate()
        wait_until(lambda: not _accepts(server.port))
        connection.sendall(body)
        assert b"200 OK" in connection.recv(1000)
    assert server.process.wait(60) == 0


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def test_a_broken_model_ends_the_start_with_one_sentence(tmp_path, tiny_dir):
    """A corrupt artifact ends the server, and the sentence says what to do."""
    broken = shutil.copytree(tiny_dir, tmp_path / "broken")
    (broken / "text_int8.onnx").write_bytes(b"\0" * (tiny_dir / "text_int8.onnx").stat().st_size)
    run = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "serve", str(broken), "--port", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode != 0
    assert "sha256 differs from manifest.json; run the export again" in run.stderr


def test_the_parent_holds_no_numerics(server):
    """gunicorn's parent has neither numpy nor onnxruntime mapped: it stays small, and nothing is built before fork."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" not in maps
    assert "numpy" not in maps


def test_a_killed_worker_is_replaced(server):
    """When a worker dies, a new one takes over and answers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    before = post(server, {"input": "a cat"})
    os.kill(int(children[0]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists())
    wait_until(server.is_ready)
    assert post(server, {"input": "a cat"}) == before
