"""Ask this machine's server whether it is ready: `python -m server.healthcheck`, exit status 0 or 1. For containers."""

from __future__ import annotations

import http.client
import sys

from server.settings import Settings, read_environment

_TIMEOUT_S = 2.0


def is_ready(port: int) -> bool:
    """Whether GET /health/ready on the loopback address answers 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(Settings.from_env(read_environment()).port) else 1)
