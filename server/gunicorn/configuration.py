"""Settings -> gunicorn's. Computed in the parent, which stays small: no numpy, no onnxruntime, no model.

Workers build the app after fork (no preload): a session's threads would not survive it.
"""

from __future__ import annotations

import gc
import os
from typing import Any

from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import forget_code, give_back
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import worker_count
from siglip_edge.server.gunicorn.logger import Logger

MEMORY_FILES = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - memory, not a disk that may stall


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Everything that gunicorn is told, by gunicorn's own names."""
    return {
        "bind": bind_address(settings),
        "workers": worker_count(settings, read_cpu_budget()),
        # Threads: a sync worker holds one request, so its batcher would never see two.
        "worker_class": "siglip_edge.server.gunicorn.worker.Worker",
        "threads": settings.threads,
        "worker_connections": 1000,
        # Longer than the usual proxies' 60 s: they close first, so no request meets a closing connection.
        "keepalive": 75,
        "timeout": 30,  # of the worker's main loop, which never computes; a request's own time is REQUEST_TIMEOUT
        "graceful_timeout": int(settings.request_timeout_s) + 5,  # SIGTERM: every admitted request is answered
        "control_socket_disable": True,  # no management interface that nobody asked for
        "worker_tmp_dir": MEMORY_FILES,
        "logger_class": Logger,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "when_ready": _when_ready,
        "post_fork": _post_fork,
        "post_worker_init": _post_worker_init,
        "child_exit": _child_exit,
    }


def bind_address(settings: Settings) -> str:
    """HOST and PORT as gunicorn reads them: an IPv6 address stands in brackets."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _when_ready(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Before the first fork. Memory that a worker inherits stays shared, because its collector does not write to it:
    3 to 4 MB less private memory per worker.
    """
    # numpy computes next to nothing here; its threads would spin while the model loads, a twentieth of a start's CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    give_back()
    gc.freeze()
    forget_code()


def _post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """The readiness probe learns of SIGTERM from the worker itself."""
    worker.app.worker = worker


def _post_worker_init(worker: Any) -> None:
    """The app is built: the worker accepts connections from here on."""
    worker.request_timeout_s = worker.app.settings.request_timeout_s
    worker.app.announce()


def _child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """A dead worker's gauges leave /metrics; its counts stay."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - the parent needs it only now

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
