"""What `/health` tells."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.servers import Servers, picture

_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "number": (int, float),
    "str": (str,),
    "str-or-null": (str, type(None)),
    "number-or-null": (int, float, type(None)),
}


def is_(servers: Servers, path: str, value: str) -> None:
    """The field has this value."""
    found = _field(servers.get().health(), path)
    assert json.dumps(found) == json.dumps(json.loads(value)), f"{path} is {found!r}"


def has(servers: Servers, path: str, kind: str) -> None:
    """The field is there and is of this kind."""
    found = _field(servers.get().health(), path)
    assert isinstance(found, _KINDS[kind]), f"{path} is {found!r}"


def images_per_second(servers: Servers) -> None:
    """The measured rate, as a text, once an image has run."""
    site = servers.get()
    site.vectors(picture())
    assert float(_field(site.health(), "performance_estimates.images_per_second")) > 0


def two_lanes(servers: Servers) -> None:
    """Texts and images wait in lanes of their own; a joint input goes through both."""
    site = servers.get()
    site.vectors({"text": "pizza", "image": picture()})
    (model,) = site.health()["models"]
    assert {lane["tower"] for lane in model["lanes"]} == {"text", "vision"}


def small_memory(servers: Servers) -> None:
    """A worker with the demo model takes less than 300 MB, where the predecessors took gigabytes."""
    site = servers.get()
    site.vectors("pizza", picture())
    assert 0 < _field(site.health(), "hardware.resident_bytes") < 300e6


def plan_has_a_reason(servers: Servers) -> None:
    (model,) = servers.get().health()["models"]
    assert "CPU" in model["plan"]
    assert "cores" in model["plan"]


def _field(answer: Any, path: str) -> Any:
    for name in path.split("."):
        assert name in answer, f"/health has no {path}"
        answer = answer[name]
    return answer
