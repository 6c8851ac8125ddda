"""`siglip-edge serve`: runs gunicorn with settings derived from the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from siglip_edge.cli.paths import GivenPath
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import Row, SettingsInvalid, table

_SHORT = {"MODEL_CONFIG": "--config"}
"""Variable -> a second flag."""


class Serve(click.Command):
    """A flag per setting, and a help with the values in force."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Settings: flags, environment variables (also from .env), [the values in force]"):
            formatter.write_dl([(_flags(row), _meaning(row)) for row in table(_settings())])


def _flags(row: Row) -> str:
    names = [] if row.is_secret else [*_flags_of(row.names[0])]
    return ", ".join([*names, *row.names])


def _flags_of(name: str) -> list[str]:
    return [f"--{name.lower().replace('_', '-')}", *([_SHORT[name]] if name in _SHORT else [])]


def _meaning(row: Row) -> str:
    return f"{row.meaning} [{row.value or 'not set'}]"


def _options(rows: Iterable[Row]) -> list[click.Parameter]:
    """Keys have no flag: every user of the machine can read a command line."""
    return [click.Option([*_flags_of(row.names[0]), row.names[0]]) for row in rows if not row.is_secret]


def serve(directory: str | None, **flags: str | None) -> None:
    """Serve MODEL, a model directory or its name in MODELS_DIR, over HTTP."""
    from siglip_edge.server.gunicorn.application import Application
    from siglip_edge.server.gunicorn.preflight import CannotStart, checked_settings

    given = {name.upper(): value for name, value in flags.items()}
    if directory is not None and given["MODEL"] not in {None, directory}:
        raise click.UsageError("MODEL and --model name two models; give one, or --models with both")
    given |= {"MODEL": directory} if directory else {}
    if given["MODEL"] and given["MODELS"] is None:
        os.environ.pop("MODELS", None)  # one model by name counts before the models of the environment
    _set(given)
    sys.argv = ["-P", "-m", "siglip_edge", "serve"]  # for SIGUSR2: gunicorn has Python execute it in a new process
    try:
        Application(checked_settings()).run()
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


command = Serve(
    "serve",
    callback=serve,
    help=serve.__doc__,
    params=[
        click.Argument(["directory"], required=False, metavar="[MODEL]", type=GivenPath()),
        *_options(table(Settings())),
    ],
)


def _set(flags: dict[str, str | None]) -> None:
    """Put flags into the environment, where a reload finds them, in place of every other name of the setting."""
    given = {name: value for name, value in flags.items() if value is not None}
    names = {row.names[0]: row.names for row in table(Settings())}
    replaced = {"MODEL", "MODELS"} if {"MODEL", "MODELS"} & set(given) else set()
    for name in replaced.union(given):
        for other in names[name]:
            os.environ.pop(other, None)
    os.environ.update(given)


def _settings() -> Settings:
    try:
        return read_settings()
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from None
