"""What an environment variable of the predecessors means."""

from __future__ import annotations

import json

from siglip_edge.server.config.settings import Settings
from tests.conformance.servers import Servers


def value(_: Servers, field: str, expected: str, *environ: str) -> None:
    """With these variables, as in `BATCH_SIZE=5`, this field of the settings has this value (JSON)."""
    settings = Settings.from_env(dict(pair.split("=", 1) for pair in environ))
    found = getattr(settings, field)
    assert json.dumps(found) == json.dumps(json.loads(expected)), f"{field} is {found!r}"


def notice(_: Servers, word: str, *environ: str) -> None:
    """These variables start the server, with a sentence about them in the log."""
    settings = Settings.from_env(dict(pair.split("=", 1) for pair in environ))
    assert any(word in sentence for sentence in settings.notices), settings.notices
