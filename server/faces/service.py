"""Shared by all resources: reads and parses a request, finds its model, judges its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import falcon

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.server.embedding.embedder import Embedder
from siglip_edge.server.http import bodies
from siglip_edge.server.inputs.input_reader import AS_TEXT, InputReader
from siglip_edge.server.models.registry import Models

RequestT = TypeVar("RequestT")


@dataclass(frozen=True)
class Service:
    models: Models
    inputs: InputReader
    """Knows no model; `reader` does."""
    max_body_bytes: int

    def json(self, req: falcon.Request, kind: type[RequestT]) -> RequestT:
        """The body as a typed request. Raises InvalidInput, or Falcon's 413 and 415."""
        return bodies.read_json(req, kind, self.max_body_bytes)

    def form(self, req: falcon.Request, kind: type[RequestT]) -> RequestT:
        """The multipart form as a typed request. Raises InvalidInput, or Falcon's 400, 413 and 415."""
        return bodies.read_form(req, kind, self.max_body_bytes)

    def reader(self, embedder: Embedder, as_text: str = AS_TEXT) -> InputReader:
        """Reads inputs for this model. `as_text`: as in `InputReader`."""
        return replace(self.inputs, no_images=embedder.lacking(Tower.VISION), as_text=as_text)

    def embedder(self, req: falcon.Request, model: str | None, expect_space: str | None = None) -> Embedder:
        """The embedder of the model that the request names. Raises ModelNotFound, SpaceMismatch or NotReady."""
        expected = (expect_space, req.get_header("X-Embedding-Space"))
        return self.models.embedder(model, req.context.request, *expected)
