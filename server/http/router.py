"""Falcon's routing by the table of routes, and HEAD wherever GET is: many uptime monitors ask with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from falcon.routing import CompiledRouter

Responder = Callable[..., None]
"""`(req, resp, **fields of the path)`."""


@dataclass(frozen=True)
class Endpoint:
    """A path: its responder per method, and the name of its face."""

    face: str
    responders: Mapping[str, Responder]


class Router(CompiledRouter):
    """Its resources are Endpoints."""

    def map_http_methods(self, resource: object, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002 - falcon's signature
        """Falcon itself leaves out the body of an answer to HEAD."""
        assert isinstance(resource, Endpoint)
        responders = dict(resource.responders)
        return {"HEAD": responders["GET"], **responders} if "GET" in responders else responders

    def face_of(self, path: str) -> str | None:
        """The name of the path's face; None where no route matches."""
        found = self.find(path)
        return found[0].face if found and isinstance(found[0], Endpoint) else None
