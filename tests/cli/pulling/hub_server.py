"""A server on the loopback that speaks the hub's protocol for downloads, and a plain web server's, for one repository."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 64 << 10
"""Bytes. Larger files are in another store, to which the hub redirects."""


@dataclass
class Hub:
    """The repository OWNER/NAME at its only commit. A test changes the fields."""

    repository: str
    files: dict[str, bytes]
    url: str = ""
    token: str | None = None
    """The repository is private to it."""
    gated: bool = False
    broken_after: dict[str, list[int]] = field(default_factory=dict)
    """File -> after how many bytes its connection breaks, once per number."""
    ignores_ranges: bool = False
    pause: Callable[[str], None] = lambda name: None
    """Called before a file's second half is sent."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(method, path, Range) of every request."""

    @property
    def store(self) -> str:
        """The same server by another name, because the hub's store is another host."""
        return self.url.replace("127.0.0.1", "localhost")

    def ranges(self, part: str) -> list[str | None]:
        """The `Range` of every GET whose path has this part."""
        return [given for method, path, given in self.requests if method == "GET" and part in path]


@contextmanager
def serving_hub(directory: Path, repository: str = "somebody/tiny") -> Iterator[Hub]:
    """Serve the files of a directory as a repository of the hub, and at /plain/."""
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    hub = Hub(repository=repository, files=files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/revision/(.+)", path):
            self._model(*found.groups())
        elif found := re.fullmatch(r"/(\w+/\w+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        elif found := re.fullmatch(r"/(?:store|plain)/(.+)", path):
            self._bytes(found[1], {"ETag": '"plain"'})
        else:
            self._error(404, "EntryNotFound")

    def _is_refused(self, repository: str, revision: str) -> bool:
        hub, token = self.hub, self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository != hub.repository or (hub.token and token != hub.token):
            self._error(401, "RepoNotFound")
        elif revision not in {"main", COMMIT}:
            self._error(404, "RevisionNotFound")
        else:
            return False
        return True

    def _model(self, repository: str, revision: str) -> None:
        if self._is_refused(repository, revision):
            return
        siblings = [{"rfilename": name} for name in self.hub.files]
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _file(self, repository: str, revision: str, name: str) -> None:
        if self._is_refused(repository, revision):
            return
        if self.hub.gated:
            self._error(403, "GatedRepo")
        elif name not in self.hub.files:
            self._error(404, "EntryNotFound")
        else:
            self._found(name)

    def _found(self, name: str) -> None:
        content = self.hub.files[name]
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest[:40]}"'}
        if len(content) <= LARGE:
            self._bytes(name, headers)
            return
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'}
        self._send(302, b"", headers | linked | {"Location": f"{self.hub.store}/store/{name}"})

    def _bytes(self, name: str, headers: dict[str, str]) -> None:
        if name not in self.hub.files:
            self._error(404, "EntryNotFound")
            return
        content, first = self.hub.files[name], 0
        if (given := self.headers.get("Range")) and not self.hub.ignores_ranges:
            first = int(given.removeprefix("bytes=").partition("-")[0])
            headers = headers | {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        self._send(206 if first else 200, content[first:], headers, name=name)

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        breaks = self.hub.broken_after.get(name)
        if breaks:
            self.wfile.write(body[: breaks.pop(0)])
            self.close_connection = True
            return
        half = len(body) // 2
        self.wfile.write(body[:half])
        if name:
            self.hub.pause(name)
        self.wfile.write(body[half:])
