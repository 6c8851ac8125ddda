"""`siglip-edge healthcheck`: tells a container or a service manager whether the server on this machine is ready."""

from __future__ import annotations

import http.client
import sys
from contextlib import closing

import click

from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.variables import SettingsInvalid

_TIMEOUT_S = 2.0
"""Shorter than the three seconds that HEALTHCHECK in the Dockerfiles allows."""
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses to connect to instead
"""HOST of a server that listens on every interface -> the address to connect to."""


@click.command("healthcheck")
def command() -> None:
    """Ask the server at HOST and PORT whether it is ready. The exit status is 0 when it is ready, else 1."""
    try:
        settings = read_settings()
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from None
    if settings.port == 0:
        raise click.ClickException("PORT=0 lets the server take any free port; set the one that it listens on")
    sys.exit(0 if is_ready(_EVERY_INTERFACE.get(settings.host, settings.host), settings.port) else 1)


def is_ready(host: str, port: int) -> bool:
    """Whether GET /health/ready answers 200 within two seconds."""
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == http.client.OK
    except (OSError, UnicodeError, http.client.HTTPException):  # nobody there, a name that is none, no HTTP
        return False
