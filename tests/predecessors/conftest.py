"""The examples that the predecessors published, run against a real server: host, port and places of files aside."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.server.conftest import ROOT, Server, running, start

__all__ = ["running", "start"]

EMOJI = ROOT / "quantized_models/emoji-siglip"
PICTURES = {
    "image.jpg": "noto-v1--pizza",
    "local_image.jpg": "noto-v1--pizza",
    "cat.jpg": "twemoji--dog-face",
    "image1.jpg": "noto-v1--pizza",
    "image2.jpg": "noto-v1--octopus",
    "image3.jpg": "twemoji--dog-face",
}
"""Name in an example -> the picture of the demo that stands for it."""

_HOST = re.compile(r"http://localhost:\d+")
_PICTURE_HOST = re.compile(r"https://(?:example\.com|images\.unsplash\.com)/")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a JPEG per name that an example reads."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, source in PICTURES.items():
        Image.open(ROOT / f"demo/heldout/{source}.png").convert("RGB").save(folder / name, quality=95)
    return folder


class _Pictures(SimpleHTTPRequestHandler):
    """A picture for every path: the file of that name, else `cat.jpg`, as a photograph's address has no suffix."""

    def translate_path(self, path: str) -> str:
        file = Path(self.directory) / Path(path).name
        return str(file if file.exists() else file.with_name("cat.jpg"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's signature
        """Nothing: pytest shows what fails."""


@pytest.fixture(scope="session")
def picture_host(pictures: Path) -> Iterator[str]:
    """`host:port` of a web server that stands for the hosts of the examples' pictures."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pictures, directory=str(pictures))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def shell(pictures: Path, picture_host: str) -> Callable[[Server, str], Any]:
    """`shell(server, example)` -> the JSON that the shell commands of an example print."""

    def run(server: Server, example: str) -> Any:
        here = _PICTURE_HOST.sub(f"http://{picture_host}/", example.replace("/path/to/", ""))
        return json.loads(_printed(server, ["sh", "-c"], here, pictures))

    return run


@pytest.fixture
def python(pictures: Path) -> Callable[[Server, str, str], Any]:
    """`python(server, example, expression)` -> the value of the expression after an example's program has run."""

    def run(server: Server, example: str, expression: str) -> Any:
        program = f"{example}\nimport json\nprint(json.dumps({expression}))"
        return json.loads(_printed(server, [sys.executable, "-c"], program, pictures))

    return run


def _printed(server: Server, program: list[str], example: str, folder: Path) -> str:
    command = [*program, _HOST.sub(server.url, example)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
