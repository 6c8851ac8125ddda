"""gunicorn's parent process: it opens the sockets and starts the workers. `Application(settings).run()` serves."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn import arbiter, sock, systemd, util
from gunicorn.app.base import Application as GunicornApplication

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.gunicorn.configuration import MEMORY_FILES, gunicorn_settings
from siglip_edge.server.gunicorn.metrics_directory import MetricsDirectory
from siglip_edge.server.gunicorn.preflight import CannotStart, checked_settings
from siglip_edge.server.gunicorn.worker import STOP_SIGNALS
from siglip_edge.server.observability import logs

if TYPE_CHECKING:
    from siglip_edge.server.app import App

logger = logging.getLogger("siglip_edge")


class Application(GunicornApplication):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's application, configured from `Settings`. GUNICORN_CMD_ARGS adds gunicorn's own options."""

    worker: Any = None
    """The `Worker` of this process; None in the parent process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(prog="siglip-edge serve")

    def load_config(self) -> None:
        logs.configure(self.settings.log_format, self.settings.log_level)
        for notice in self.settings.notices:
            logger.warning("%s", notice)
        for name, value in gunicorn_settings(self.settings).items():
            self.cfg.set(name, value)
        options = self.cfg.parser().parse_args(self.cfg.get_cmd_args_from_env())
        if options.config:
            self.load_config_from_file(options.config)
        for name, value in vars(options).items():
            if value is not None and name != "args":
                self.cfg.set(name, value)

    def load(self) -> App:
        """Build the app. gunicorn calls this in each worker, after fork."""
        from siglip_edge.server.gunicorn.wsgi import worker_app  # noqa: PLC0415 - the parent never imports numpy

        return worker_app(self.settings, lambda: self.worker is not None and not self.worker.alive)

    def announce(self) -> None:
        """Log the addresses, once per start: the first worker does so when it accepts connections."""
        if self.worker.age == 1:
            for listener in self.worker.sockets:
                logger.info("Listening on %s (docs at /docs)", listener)

    def run(self) -> None:
        """Serve until a signal stops the server. Raises CannotStart."""
        Arbiter(self).run()


class Arbiter(arbiter.Arbiter):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's parent process. It says in one sentence why it cannot start, and logs that it has stopped."""

    _metrics: MetricsDirectory

    def start(self) -> None:
        if self._binds_itself():
            self.LISTENERS = [_listen(address, self.cfg, self.log) for address in self.cfg.address]
        _log_configuration(self.app.settings)
        # The metrics library reads the variable when a worker imports it.
        self._metrics = MetricsDirectory.create(MEMORY_FILES)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._metrics.path)
        super().start()

    def reload(self) -> None:
        """Called at SIGHUP: new workers with the settings of now. Invalid settings change nothing."""
        try:
            settings = _settings_instead_of(self.app.settings)
        except CannotStart as error:
            logger.error("SIGHUP changed nothing: %s", error)  # noqa: TRY400 - the sentence is enough without a traceback
            return
        self.app.settings = settings
        super().reload()
        _log_configuration(settings)
        logger.info("SIGHUP: new workers serve with the settings of now")

    def spawn_worker(self) -> int:
        """Fork a worker. It answers stop signals when its own handlers are set: until then it has this process's, which
        would only note the signal in a copy of this process's queue.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            return int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        try:
            super().halt(reason, exit_status)
        finally:
            self._metrics.remove()
            if exit_status == 0:
                logger.info("Stopped")

    def _binds_itself(self) -> bool:
        """Whether this process opens its sockets. systemd, or at SIGUSR2 the parent, may have opened them instead."""
        inherited = "GUNICORN_PID" in os.environ or systemd.listen_fds(unset_environment=False)
        by_address = all(isinstance(address, tuple) for address in self.cfg.address)
        return by_address and not inherited and not self.cfg.reuse_port


def _log_configuration(settings: Settings) -> None:
    """One line, with the words and fields that operators of earlier servers look for."""
    runs = settings.max_concurrent_batches or "auto"
    logger.info(
        "runtime_config: models %s, device %s; Workers %s; Batch size %d, wait %g ms, runs at once %s; queue %d, %s",
        *(", ".join(settings.named_models), settings.device, settings.workers, settings.batch_size),
        *(settings.batch_wait_time_ms, runs, settings.max_queue_size, settings.queue_overflow_action),
        extra={
            "event": "runtime_config",
            "model_device": settings.device,
            "max_concurrent": runs,
            "max_queue_size": settings.max_queue_size,
            "max_batch_size": settings.max_batch_size,
            "max_text_chars": settings.max_text_chars,
            "enable_batching": settings.batch_size > 1,
            "batch_window_ms": settings.batch_wait_time_ms,
            "batch_max_size": settings.batch_size,
        },
    )


def _settings_instead_of(old: Settings) -> Settings:
    """The settings of the environment. Raises CannotStart if they are invalid or change the address."""
    new = checked_settings()
    if (new.host, new.port) != (old.host, old.port):
        raise CannotStart("HOST and PORT can change only at a start; stop the server and start it again")
    return new


def _listen(address: tuple[str, int], cfg: Any, log: Any) -> sock.TCPSocket:
    """Open a socket. gunicorn itself tries five times, a second apart. Raises CannotStart."""
    kind: Callable[..., sock.TCPSocket] = sock.TCP6Socket if util.is_ipv6(address[0]) else sock.TCPSocket
    try:
        return kind(address, cfg, log)
    except OSError as error:
        raise CannotStart(_why_not(*address, error)) from error


def _why_not(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"HOST={host} is not the name of an address ({error.strerror}); 127.0.0.1 serves this machine only"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program; choose another one: --port NUMBER"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST={host} is not an address of this machine; 0.0.0.0 listens on all of them"
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {port}; ports from 1024 on are open to everybody"
    return f"cannot listen on port {port} of {host}: {error.strerror}"
