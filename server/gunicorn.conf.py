"""Settings -> gunicorn's. Read in the parent, which stays small: no numpy, no onnxruntime, no model.

Workers import `server.wsgi` after fork (no preload): a session's threads and a batch thread would not survive it.
"""

# ruff: noqa: N999 - the name gunicorn looks for

from __future__ import annotations

import os
import sys

from runtime.cpu import read_cpu_budget
from server.capacity import worker_count
from server.settings import Settings, SettingsInvalid, read_environment

try:
    _settings = Settings.from_env(read_environment())
except SettingsInvalid as error:
    sys.exit(f"siglip-edge: {error}")

wsgi_app = "server.wsgi:app"
bind = f"{_settings.host}:{_settings.port}"
workers = worker_count(_settings, read_cpu_budget())
worker_class = "gthread"  # a sync worker holds one request, so a worker's batcher would never see two
threads = _settings.threads
worker_connections = 1000
keepalive = 75  # longer than the usual proxies' 60 s: they close first, so no request meets a closing connection
timeout = 30  # of the worker's main loop, which never computes; a request's own time is REQUEST_TIMEOUT
graceful_timeout = int(_settings.request_timeout_s) + 5  # SIGTERM: whatever was admitted is answered
control_socket_disable = True  # no management interface that nobody asked for
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None  # noqa: PTH112, S108
loglevel = "warning" if _settings.log_level == "info" else _settings.log_level
