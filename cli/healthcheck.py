"""`siglip-edge healthcheck`: is this machine's server ready? For containers and service managers."""

from __future__ import annotations

import http.client
import sys

import click

from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment

_TIMEOUT_S = 2.0
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses to connect to instead
"""Where a server that listens on every interface is asked."""


@click.command("healthcheck")
def command() -> None:
    """Ask the server that HOST and PORT name whether it is ready; the exit status is 0 when it is, else 1."""
    try:
        settings = Settings.from_env(read_environment())
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from None
    if settings.port == 0:
        raise click.ClickException("PORT=0 lets the server take any free port; set the one that it listens on")
    sys.exit(0 if is_ready(_EVERY_INTERFACE.get(settings.host, settings.host), settings.port) else 1)


def is_ready(host: str, port: int) -> bool:
    """Whether GET /health/ready answers 200 within two seconds."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
