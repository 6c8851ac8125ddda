"""Settings -> gunicorn's. Read in the parent, which stays small: no numpy, no onnxruntime, no model.

Workers import `server.gunicorn.wsgi` after fork (no preload): a session's threads would not survive it.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from typing import Any

from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import forget_code, give_back
from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment
from siglip_edge.server.config.sizing import worker_count

try:
    _settings = Settings.from_env(read_environment())
except SettingsInvalid as error:
    sys.exit(f"siglip-edge: {error}")

wsgi_app = "siglip_edge.server.gunicorn.wsgi:app"
bind = f"{_settings.host}:{_settings.port}"
workers = worker_count(_settings, read_cpu_budget())
# Threads: a sync worker holds one request, so its batcher would never see two.
worker_class = "siglip_edge.server.gunicorn.worker.Worker"
threads = _settings.threads
worker_connections = 1000
keepalive = 75  # longer than the usual proxies' 60 s: they close first, so no request meets a closing connection
timeout = 30  # of the worker's main loop, which never computes; a request's own time is REQUEST_TIMEOUT
graceful_timeout = int(_settings.request_timeout_s) + 5  # SIGTERM: whatever was admitted is answered
control_socket_disable = True  # no management interface that nobody asked for
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - memory, not a disk that may stall
loglevel = "warning" if _settings.log_level == "info" else _settings.log_level

# Every start counts from zero in a directory of its own; workers inherit the variable before they import the library.
_metrics_dir = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="siglip-edge-", dir=worker_tmp_dir)

# numpy computes next to nothing here, and its threads spin while the model loads: a twentieth of a start's CPU time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def when_ready(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Before the first fork: what a worker inherits stays shared, because its collector does not write to it.

    3 to 4 MB less private memory a worker.
    """
    give_back()
    gc.freeze()
    forget_code()


def post_worker_init(worker: Any) -> None:
    """The readiness probe learns of SIGTERM from the worker itself, and the worker of a limit that gunicorn lacks."""
    from siglip_edge.server.gunicorn import wsgi  # noqa: PLC0415 - only ever in a worker

    wsgi.worker = worker
    worker.request_timeout_s = _settings.request_timeout_s


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """A dead worker's gauges leave /metrics; its counts stay."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - the parent needs it only now

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    shutil.rmtree(_metrics_dir, ignore_errors=True)
