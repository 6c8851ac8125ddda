"""Log lines on stderr, as text or as JSON. No line contains any input of a caller."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, process id, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(log_format: str, level: str) -> None:
    """Write the lines of this project and of gunicorn to stderr. The loggers of other libraries stay as they are."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s [%(process)d] %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    for name in ("siglip_edge", "gunicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level.upper())
        logger.propagate = False
