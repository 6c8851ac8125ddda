"""A fake model behind the real app, and a real gunicorn on a free port."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.server.app import App, create_app
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.models.loading import plan_served
from tests.server.fake_model import FakeModel
from tests.tiny_model import write_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that loads in milliseconds; tests do not change it."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The shipped model."""
    return ROOT / "quantized_models/emoji-siglip"


@pytest.fixture
def fake(tiny_dir: Path) -> FakeModel:
    """The model behind `client`: a test can hold its runs and break them."""
    return FakeModel(Manifest.load(tiny_dir))


@pytest.fixture
def client_of(fake: FakeModel) -> Callable[..., falcon.testing.TestClient]:
    """`client_of(NAME="value", …)`: the app over the fake model with these environment variables."""
    return lambda **environ: falcon.testing.TestClient(create_app(Settings.from_env(environ), fake))


@pytest.fixture
def client(client_of: Callable[..., falcon.testing.TestClient]) -> falcon.testing.TestClient:
    """The app over the fake model with every setting at its default."""
    return client_of()


def loading_app(told: list[str], **environ: str) -> App:
    """The app as a worker makes it; returns when the model answers or has failed.

    `told` gets the sentence of a failed load, or the word `late` for a tower that fails later.
    """
    settings = Settings.from_env({"PREPARE": "false", **environ})
    default, *others = plan_served(settings, read_cpu_budget())
    default.start(on_failure=told.append, on_late_failure=lambda: told.append("late"))
    app = create_app(settings, served=[default, *others])
    default.wait(60)
    return app


def png(
    color: str | float | tuple[int, ...] = "red", size: tuple[int, int] = (20, 10), mode: str = "RGB", **save: Any
) -> bytes:
    """A picture of one colour as PNG bytes, or as another `format` of Pillow's."""
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, **{"format": "PNG", **save})
    return buffer.getvalue()


def data_uri(data: bytes, kind: str = "png") -> str:
    """An image as the API takes it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def wait_until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Poll until the condition is true; fails the test after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


class Server:
    """`siglip-edge serve` as a user starts it, on a free port of 127.0.0.1, in the folder of its log.

    `inside`: words before the command. `arguments`: words after it.
    """

    def __init__(self, log: Path, *, inside: Sequence[str] = (), arguments: Sequence[str] = (), **environ: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(self.port), "PREPARE": "false", **environ}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*inside, sys.executable, "-c", "from siglip_edge.cli.main import main; main()", "serve", *arguments],
                cwd=log.parent, env=env, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the server ended: {self.log.read_text()}"
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            return False

    def stop(self) -> int:
        """SIGTERM. -> the exit status."""
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`start(MODEL=…)` -> a ready server of the test's own, stopped at the end of the module."""
    servers: list[Server] = []

    def start_server(*, inside: Sequence[str] = (), **environ: str) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server") / "log.txt", inside=inside, **environ))
        wait_until(servers[-1].is_ready)
        return servers[-1]

    yield start_server
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def running(start: Callable[..., Server]) -> Callable[..., Server]:
    """`running(MODEL=…)` -> as `start`, but one server per settings: the tests of a module share it."""
    servers: dict[tuple[tuple[str, str], ...], Server] = {}

    def running_server(**environ: str) -> Server:
        settings = tuple(sorted(environ.items()))
        if settings not in servers:
            servers[settings] = start(**environ)
        return servers[settings]

    return running_server


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


Field = tuple[str, str | tuple[str, bytes]]
"""A field of a multipart form: its name, and a text, or a file as (filename, bytes)."""


def form(fields: Sequence[Field]) -> dict[str, object]:
    """Arguments of a simulated request with a multipart form."""
    parts = []
    for name, value in fields:
        filename, data = value if isinstance(value, tuple) else (None, value.encode())
        suffix = "" if filename is None else f'; filename="{filename}"'
        parts.append(
            f'--edge\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'.encode() + data + b"\r\n"
        )
    body = b"".join(parts) + b"--edge--\r\n"
    return {"body": body, "headers": {"Content-Type": "multipart/form-data; boundary=edge"}}
