"""gunicorn's log lines: in the same place and format as the lines of this project, without any input of a caller."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from gunicorn import glogging

APP_CANNOT_START = 4
"""gunicorn's exit code of a worker whose app cannot be loaded: the parent stops instead of starting another worker."""

_WORKER_EXITED = "Worker (pid:%s) exited with code %s."
_SAID_BY_OURS = ("Shutting down: %s", "Reason: %s")
"""Lines of gunicorn that repeat a line of this project, which gives the reason or says `Stopped`."""

_ABOUT_A_REQUEST = {
    "Error handling request": "A request failed outside of the application",
}
"""Start of a gunicorn line that quotes the caller -> the line that replaces it."""


class Logger(glogging.Logger):  # type: ignore[misc] # gunicorn has no types
    """Sends gunicorn's lines to the `gunicorn` logger, which observability/logs.py configures."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(is_wanted)
        self.error_log.addFilter(remove_caller_bytes)
        if cfg.errorlog == "-":
            self._set_handler(self.error_log, None, None)
            self.error_log.propagate = True


def is_wanted(record: logging.LogRecord) -> bool:
    """Whether the line has information that no other line has."""
    if record.msg == _WORKER_EXITED and isinstance(record.args, tuple):
        return record.args[1] != APP_CANNOT_START
    return record.msg not in _SAID_BY_OURS


def remove_caller_bytes(record: logging.LogRecord) -> bool:
    """Remove request targets, and the messages of exceptions, because they quote request targets."""
    if isinstance(record.args, tuple):
        record.args = tuple(type(arg).__name__ if isinstance(arg, Exception) else arg for arg in record.args)
    for start, line in _ABOUT_A_REQUEST.items():
        if str(record.msg).startswith(start):
            record.msg, record.args = line, ()
            record.exc_text = _without_message(record)
    return True


def _without_message(record: logging.LogRecord) -> str | None:
    """The traceback and the exception's type."""
    if not record.exc_info or not record.exc_info[0]:
        return None
    return "".join([*traceback.format_tb(record.exc_info[2]), record.exc_info[0].__name__])
