"""A gunicorn worker's app, built after fork."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import keep_little
from siglip_edge.server.config.settings import Settings, SettingsInvalid
from siglip_edge.server.gunicorn.logger import APP_CANNOT_START
from siglip_edge.server.models.loading import plan_served

if TYPE_CHECKING:
    from siglip_edge.server.app import App

LOAD_WAIT_S = 5.0
"""A worker accepts connections only when this is over or its model is there: beside other workers a new one then turns
nobody away. A model that takes longer is announced by 503 and Retry-After, while the liveness probe is answered."""

logger = logging.getLogger("siglip_edge")


def worker_app(settings: Settings, is_stopping: Callable[[], bool]) -> App:
    """The app with the models of the settings, the default one loading. Ends the server where none can be served."""
    keep_little()
    try:
        default, *others = plan_served(settings, read_cpu_budget())
        # The log has the sentence of a failure.
        default.start(on_failure=lambda _: os._exit(APP_CANNOT_START), on_late_failure=_replace_worker)
        from siglip_edge.server.app import create_app  # noqa: PLC0415 - the default model loads while this is imported

        app = create_app(settings, served=[default, *others], is_stopping=is_stopping)
    except (SettingsInvalid, SiglipEdgeError) as error:
        logger.critical("%s", error)
        os._exit(APP_CANNOT_START)
    default.wait(LOAD_WAIT_S)
    return app


def _replace_worker() -> None:
    """Answer every admitted request and end, as on SIGTERM; gunicorn starts another worker, which tests everything."""
    os.kill(os.getpid(), signal.SIGTERM)
