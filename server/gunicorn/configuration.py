"""Settings -> gunicorn's settings. Computed in the parent process, which imports neither numpy nor onnxruntime.

Each worker builds the app after fork (no preload), because the threads of a session do not survive a fork.
"""

from __future__ import annotations

import gc
import os
import resource
from typing import Any

from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.machine.memory import forget_code, give_back
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import places, waiting_requests, worker_connections, worker_count
from siglip_edge.server.gunicorn.logger import Logger
from siglip_edge.server.gunicorn.waiting_line import WaitingLine

MEMORY_FILES = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - no secrets
"""Directory in memory, where writing never waits for a disk. None: the directory for temporary files."""


_MOST_FILES = 1 << 16
"""More than every setting can need."""


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """-> gunicorn's name of a setting -> its value."""
    return {
        "bind": bind_address(settings),
        "workers": worker_count(settings, read_cpu_budget()),
        # Threads, because a sync worker holds one request at a time: no batch would ever have two requests.
        "worker_class": "siglip_edge.server.gunicorn.worker.Worker",
        "threads": settings.threads,
        "worker_connections": worker_connections(settings, open_files()),
        # Longer than the 60 s of common proxies. The proxy closes first, so no request meets a closing connection.
        "keepalive": 75,
        "timeout": 30,  # of the main loop, which never computes; REQUEST_TIMEOUT limits a request
        "graceful_timeout": int(settings.request_timeout_s) + 5,  # after SIGTERM every admitted request is answered
        "control_socket_disable": True,  # no management interface
        "worker_tmp_dir": MEMORY_FILES,
        "logger_class": Logger,
        "loglevel": "warning" if settings.log_level == "info" else settings.log_level,
        "when_ready": _when_ready,
        "post_fork": _post_fork,
        "post_worker_init": _post_worker_init,
        "child_exit": _child_exit,
    }


def open_files() -> int:
    """-> the number of open files that a worker may have, after raising it as far as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    return allowed


def bind_address(settings: Settings) -> str:
    """-> HOST:PORT for gunicorn, with an IPv6 address in brackets."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _when_ready(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Called before the first fork. Inherited objects are frozen, so that the garbage collector of a worker does not
    write to their pages and they stay shared (docs/memory.md).
    """
    # numpy computes almost nothing here, and its threads would take CPU time while a model loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    give_back()
    gc.freeze()
    forget_code()


def _post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Give the app its worker, by which the readiness probe knows that the server is stopping."""
    worker.app.worker = worker


def _post_worker_init(worker: Any) -> None:
    """Called when the app is built. From here on the worker accepts connections."""
    settings = worker.app.settings
    worker.request_timeout_s = settings.request_timeout_s
    worker.line = WaitingLine(places(settings), waiting_requests(settings, worker.cfg.worker_connections))
    worker.app.announce()


def _child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Remove the gauges of a dead worker from /metrics. Its counters stay."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - the parent needs it only now

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
