"""Real servers of this checkout for the checks, one per settings, and requests to them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.server.conftest import ROOT, Server, wait_until

MODEL = ROOT / "quantized_models/emoji-siglip"
PIZZA = ROOT / "demo/heldout/noto-v1--pizza.png"

_MOST_SERVERS = 4
"""Servers that run at the same time; the one that was asked longest ago is stopped."""

_CALL: dict[str, Any] = {"timeout": 120, "trust_env": False}


class Servers:
    """Starts a server when a check asks for its settings, and keeps it for the next check."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: OrderedDict[tuple[tuple[str, str], ...], Server] = OrderedDict()
        self._started = 0

    def get(self, *, inside: Sequence[str] = (), **environ: str) -> Site:
        """A ready server of the shipped model with these settings. `inside`: words before its command."""
        key = (*sorted(environ.items()), ("inside", " ".join(inside)))
        if key not in self._running:
            while len(self._running) >= _MOST_SERVERS:
                self._running.popitem(last=False)[1].stop()
            server = self.start(environ, inside=inside)
            self._running[key] = server
            wait_until(server.is_ready)
        self._running.move_to_end(key)
        return Site(self._running[key])

    def refused(self, **environ: str) -> str:
        """The log of a start that ends with an error."""
        server = self.start(environ)
        status = server.process.wait(60)
        assert status != 0, "the server ended without an error"
        return server.log.read_text(encoding="utf-8")

    def stop(self) -> None:
        for server in self._running.values():
            if server.process.poll() is None:
                server.stop()
        self._running.clear()

    def start(
        self, environ: dict[str, str], *, inside: Sequence[str] = (), arguments: Sequence[str] = (), dotenv: str = ""
    ) -> Server:
        """A server that is starting; the caller stops it."""
        self._started += 1
        folder = self.folder / str(self._started)
        folder.mkdir(parents=True)
        if dotenv:
            (folder / ".env").write_text(dotenv, encoding="utf-8")
        usual = {"MODELS_DIR": str(MODEL.parent), "PREPARE": "true", "CACHE_DIR": str(self.folder / "cache")}
        return Server(folder / "log.txt", inside=inside, arguments=arguments, **{**usual, **environ})


class Site:
    """A running server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = server.url

    @property
    def log(self) -> str:
        return self.server.log.read_text(encoding="utf-8")

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, **_CALL, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        if body is not None:
            more["json"] = body
        return httpx.post(self.url + path, **_CALL, **more)

    def ok(self, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of a POST, which must be answered with 200."""
        answer = self.post(path, body, **more)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.json()

    def error(self, path: str, body: Any = None, *, status: int, **more: Any) -> str:
        """The text of a POST, which must be answered with this status."""
        answer = self.post(path, body, **more)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text[:300]}"
        return answer.text

    def vectors(self, *inputs: Any, **more: Any) -> list[list[float]]:
        """Embeddings of the inputs."""
        answer = self.ok("/v1/embeddings", {"input": list(inputs), **more})
        return [item["embedding"] for item in answer["data"]]

    def health(self) -> Any:
        return self.get("/health").json()

    def metric(self, sample: str) -> float:
        """The sum of the samples of /metrics that start with this text."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(sample)]
        assert lines, f"/metrics has no {sample}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def at_once(self, bodies: Sequence[Any], path: str = "/v1/embeddings") -> list[int]:
        """The status numbers of POSTs that are sent at the same time."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            return [answer.status_code for answer in threads.map(lambda body: self.post(path, body), bodies)]


def picture(path: Path = PIZZA) -> str:
    """A picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of vectors of length one."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def upload(path: Path = PIZZA, name: str = "image.png") -> dict[str, Any]:
    """Arguments of a request with this file in the field `file`."""
    return {"files": {"file": (name, path.read_bytes(), "image/png")}}


def command(
    *arguments: str, cwd: Path = ROOT, timeout: float = 300, **environ: str
) -> subprocess.CompletedProcess[str]:
    """`siglip-edge` with these arguments."""
    return subprocess.run(
        [sys.executable, "-m", "siglip_edge", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
