"""Real servers for real clients: `siglip-edge serve` of another environment, on a free port of 127.0.0.1.

SIGLIP_EDGE names the command; MODEL a model directory (the shipped one unless given).
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = Path(os.environ.get("MODEL", ROOT / "quantized_models/emoji-siglip"))


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The base URL of a ready server, without /v1."""
    with _serving() as url:
        yield url


@pytest.fixture(scope="session")
def locked_url() -> Iterator[str]:
    """The base URL of a ready server whose key is `secret`."""
    with _serving(API_KEYS="secret") as url:
        yield url


@contextmanager
def _serving(**environ: str) -> Iterator[str]:
    port = _free_port()
    command = os.environ.get("SIGLIP_EDGE", "siglip-edge").split()
    env = {**os.environ, "MODEL": str(MODEL), "PORT": str(port), "HOST": "127.0.0.1", **environ}
    process = subprocess.Popen([*command, "serve"], cwd=ROOT, env=env)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < end, "the server did not become ready"
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
