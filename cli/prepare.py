"""`siglip-edge prepare`: does the work of a model's first start in advance."""

from __future__ import annotations

import time
from pathlib import Path

import click

from siglip_edge.cli.model_options import cache_of, plan_with, settings_with
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.observability import logs


@click.command("prepare")
@click.argument("model", required=False)
def command(model: str | None) -> None:
    """Pack MODEL [MODEL] for this machine and test it, so that the next start of the server only maps the files.

    The packed graphs are kept in CACHE_DIR. The environment variables of `serve` apply, because they decide which files
    a start needs.
    """
    settings = settings_with(MODEL=model)
    cache = cache_of(settings)
    logs.configure(settings.log_format, settings.log_level)
    try:
        for name, directory in settings.named_models.items():
            seconds = _prepare(settings, directory)
            click.echo(f"{name}: ready in {cache}; loads and passes its test in {seconds:.2f} s")
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error


def _prepare(settings: Settings, directory: Path) -> float:
    """Open the model twice as the server does. -> seconds that the second opening took."""
    planned = plan_with(settings, directory)
    planned.open()
    started = time.perf_counter()
    planned.open()
    return time.perf_counter() - started
