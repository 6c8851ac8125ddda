"""Falcon's routing, and HEAD wherever GET is: what `wget --spider` and many uptime monitors ask with."""

from __future__ import annotations

from typing import Any

from falcon.routing import CompiledRouter


class Router(CompiledRouter):
    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:
        """Falcon itself leaves out the body of an answer to HEAD."""
        responders = super().map_http_methods(resource, **kwargs)
        return {"HEAD": responders["GET"], **responders} if "GET" in responders else responders
