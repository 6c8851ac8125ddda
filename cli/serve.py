"""`siglip-edge serve`: runs gunicorn with settings derived from the machine."""

from __future__ import annotations

import os
import sys

import click

from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid, table


class SettingsHelp(click.Command):
    """`--help` ends with the table of environment variables and the values in force."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Environment variables (also from .env), with the values in force"):
            formatter.write_dl([
                (" / ".join(row.names), f"{row.meaning} [{row.value or 'not set'}]") for row in table(_settings())
            ])  # fmt: skip


@click.command(cls=SettingsHelp)
@click.argument("model", required=False)
@click.option("--host", help="Address to listen on [HOST].")
@click.option("--port", help="Port to listen on [PORT]; 0 takes a free one.")
def command(model: str | None, host: str | None, port: str | None) -> None:
    """Serve MODEL [MODEL], a model directory or its name in MODELS_DIR, over HTTP."""
    from siglip_edge.server.gunicorn.application import Application
    from siglip_edge.server.gunicorn.preflight import CannotStart, checked_settings

    given = {"MODEL": model, "HOST": host, "PORT": port}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    sys.argv = ["-P", "-m", "siglip_edge", "serve"]  # for SIGUSR2: gunicorn has Python execute it in a new process
    try:
        Application(checked_settings()).run()
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


def _settings() -> Settings:
    try:
        return read_settings()
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from None
