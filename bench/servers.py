"""Starts real servers of one model on free ports of 127.0.0.1: ours, and alternatives that a user could run."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from siglip_edge.bench.processes import ProcessMemory, cpu_seconds, family, memory

PATH = "/v1/embeddings"
_FIRST_BODY = b'{"input": "a photo of a cat", "encoding_format": "base64"}'
_POLL_S = 0.01


class ServerFailed(Exception):
    """A server ended, or answered with an error. `str(error)` has its output or its answer."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    started: float
    """Moment of the start, on the clock of time.monotonic()."""
    start_s: float
    """Seconds from the start of the process to the first embedding of a text."""

    def embed(self, body: bytes) -> array[float]:
        """-> the vector of one input, float32 (d,). Raises ServerFailed."""
        status, answer = _post(self.port, body)
        if status != http.client.OK:
            raise ServerFailed(f"{status}: {answer[:300]!r}")
        encoded = json.loads(answer)["data"][0]["embedding"]
        return array("f", base64.b64decode(encoded))

    def cpu_s(self) -> float:
        return cpu_seconds(family(self.pid))

    def memory(self) -> list[ProcessMemory]:
        """-> the memory of the parent process, then of each worker."""
        return [memory(pid) for pid in family(self.pid)]


def console_script() -> str:
    """-> path of the `siglip-edge` command of this environment."""
    return str(Path(sys.executable).with_name("siglip-edge"))


@contextmanager
def serving(model: Path, script: str = "", **settings: str) -> Iterator[Server]:
    """`siglip-edge serve`, with the settings of this environment and these on top."""
    with _running(
        [script or console_script(), "serve"], {"MODEL": str(model.resolve()), **settings}, _free_port()
    ) as server:
        yield server


@contextmanager
def pytorch(checkpoint: Path, python: Path) -> Iterator[Server]:
    """bench/baseline.py: PyTorch behind FastAPI, with the same weights."""
    command = [str(python), str(Path(__file__).with_name("baseline.py"))]
    with _running(command, {"MODEL": str(checkpoint.resolve())}, _free_port()) as server:
        yield server


@contextmanager
def sentence_transformers(checkpoint: Path, python: Path) -> Iterator[Server]:
    """bench/sentence_baseline.py: sentence-transformers behind FastAPI, with the same weights."""
    command = [str(python), str(Path(__file__).with_name("sentence_baseline.py"))]
    with _running(command, {"MODEL": str(checkpoint.resolve())}, _free_port()) as server:
        yield server


@contextmanager
def infinity(checkpoint: Path, python: Path, *, warm_up: bool = True) -> Iterator[Server]:
    """infinity-emb with its defaults, but without BetterTransformer, which does not support SigLIP."""
    port = _free_port()
    command = [str(python.with_name("infinity_emb")), "v2", "--model-id", str(checkpoint.resolve())]
    command += ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--url-prefix", "/v1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    command += [] if warm_up else ["--no-model-warmup"]
    with _running(command, {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}, port) as server:
        yield server


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str], port: int) -> Iterator[Server]:
    """Run a server until the end of the block. Raises ServerFailed, with its output, when it does not start."""
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(
            command, env={**os.environ, **environment, "PORT": str(port)}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_for_embedding(process, port, log)
            yield Server(port, process.pid, started, time.monotonic() - started)
        finally:
            process.terminate()
            process.wait()


def _wait_for_embedding(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    while not _embeds(port):
        if process.poll() is not None:
            log.seek(0)
            said = log.read().decode(errors="replace")[-2000:]
            raise ServerFailed(f"{process.args!r} ended with status {process.returncode}:\n{said}")
        time.sleep(_POLL_S)


def _embeds(port: int) -> bool:
    """Whether the server answers with an embedding. It does not before it listens and while the model loads."""
    try:
        status, answer = _post(port, _FIRST_BODY)
    except (OSError, http.client.HTTPException):
        return False
    if status not in {http.client.OK, http.client.SERVICE_UNAVAILABLE}:
        raise ServerFailed(f"{status}: {answer[:300]!r}")
    return status == http.client.OK


def _post(port: int, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
