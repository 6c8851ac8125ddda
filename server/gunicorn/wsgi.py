"""Builds the app in a gunicorn worker, after fork."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import keep_little
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid
from siglip_edge.server.gunicorn.logger import APP_CANNOT_START
from siglip_edge.server.models.loading import plan_served

if TYPE_CHECKING:
    from siglip_edge.server.app import App

LOAD_WAIT_S = 5.0
"""Seconds that a new worker waits for its model before it accepts connections, so that it does not refuse requests that
other workers could answer. After them it accepts connections, answers 503 with Retry-After, and passes the liveness
probe."""

logger = logging.getLogger("siglip_edge")


def worker_app(settings: Settings, is_stopping: Callable[[], bool]) -> App:
    """-> the app, while its default model loads. Ends the server if a preloaded model cannot be served."""
    keep_little()
    try:
        default, *others = plan_served(settings, read_cpu_budget())
        default.start(on_failure=_end_server, on_late_failure=_replace_worker)
        from siglip_edge.server.app import create_app  # noqa: PLC0415 - imported while the default model loads

        app = create_app(settings, served=[default, *others], is_stopping=is_stopping, on_failure=_end_server)
    except (SettingsInvalid, SiglipEdgeError) as error:
        logger.critical("%s", error)
        os._exit(APP_CANNOT_START)
    default.wait(LOAD_WAIT_S)
    return app


def _end_server(sentence: str) -> None:  # noqa: ARG001 - the log has it already
    os._exit(APP_CANNOT_START)


def _replace_worker() -> None:
    """End this worker after every admitted request is answered. gunicorn starts another one, which tests every plan."""
    os.kill(os.getpid(), signal.SIGTERM)
