"""`GET /openapi.json` and `GET /docs`: Swagger UI, with files of a Python package, none from the network."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import falcon
from openapi_ui_bundles import swagger_ui

from siglip_edge.server.http import json

ASSETS = Path(swagger_ui.static_path)

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>siglip-edge</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon-32x32.png">
<div id="page"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""

_START = Path(__file__).with_name("docs.js")

_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
"""Nothing from other hosts. Swagger UI sets inline styles."""


class Docs:
    def __init__(self, make_document: Callable[[], dict[str, Any]]) -> None:
        self._make_document = make_document

    @cached_property
    def _document(self) -> bytes:
        """Written when it is first asked for: no start waits for it."""
        return json.render(self._make_document())

    def on_get_document(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        resp.data = self._document

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.text = _PAGE

    def on_get_start(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        resp.content_type = falcon.MEDIA_JS
        resp.text = _START.read_text(encoding="utf-8")
