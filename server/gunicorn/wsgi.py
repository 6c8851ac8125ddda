"""What a gunicorn worker imports, after fork: `app`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import keep_little
from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment
from siglip_edge.server.models.loading import plan_openings
from siglip_edge.server.observability import logs

HALT = 4
"""gunicorn's exit code for an app that cannot be loaded: the parent stops instead of starting another worker."""

LOAD_WAIT_S = 5.0
"""A worker accepts connections only when this is over or its model is there: beside other workers a new one then turns
nobody away. A model that takes longer is announced by 503 and Retry-After, while the liveness probe is answered."""

worker: Any = None
"""gunicorn's own object for this process, set by its configuration: it knows whether the process is to end."""


def _halt(message: str) -> None:
    print(f"siglip-edge: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the last words
    os._exit(HALT)


def _is_stopping() -> bool:
    return worker is not None and not worker.alive


def _leave() -> None:
    """Answer what was admitted and end, as on SIGTERM; gunicorn starts another worker, which tests everything first."""
    os.kill(os.getpid(), signal.SIGTERM)


keep_little()
try:
    _settings = Settings.from_env(read_environment())
    logs.configure(_settings.log_format, _settings.log_level)
    _openings = plan_openings(_settings, read_cpu_budget())
    _openings[0].begin()
    from siglip_edge.server.app import create_app  # the default model loads while falcon and the rest are imported

    app = create_app(
        _settings,
        openings=_openings,
        load_wait_s=LOAD_WAIT_S,
        on_load_failure=_halt,
        on_late_failure=_leave,
        is_stopping=_is_stopping,
    )
except (SettingsInvalid, SiglipEdgeError) as error:
    _halt(str(error))
