"""`siglip-edge prepare`: the work of a model's first start, done before it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from siglip_edge.cli.model_options import plan_with, settings_with
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.observability import logs


@click.command("prepare")
@click.argument("model", required=False)
def command(model: str | None) -> None:
    """Make MODEL ready for this machine in CACHE_DIR, so that the next start of the server only maps it [MODEL].

    The environment variables of `serve` count, because they decide which files a start needs.
    """
    settings = settings_with(MODEL=model)
    if settings.model_cache is None:
        raise click.ClickException("PREPARE=false: nothing is kept")
    logs.configure(settings.log_format, settings.log_level)
    try:
        for name, directory in settings.named_models.items():
            seconds = _prepare(settings, directory)
            click.echo(f"{name}: ready in {settings.model_cache}; loads and tests itself in {seconds:.2f} s")
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error


def _prepare(settings: Settings, directory: Path) -> float:
    """Open as the server does, twice. -> seconds of the second time."""
    planned = plan_with(settings, directory)
    planned.open()
    started = time.perf_counter()
    planned.open()
    return time.perf_counter() - started
