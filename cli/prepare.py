"""`siglip-edge prepare`: what the first start would do, done before it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.checks.tuning import tuned_plans
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.open_model import load_first_right
from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment
from siglip_edge.server.config.sizing import served_towers, wishes
from siglip_edge.server.observability import logs


@click.command("prepare")
@click.argument("model", required=False)
def command(model: str | None) -> None:
    """Make MODEL ready for this machine in CACHE_DIR, so that the next start of the server only maps it [MODEL].

    The environment variables of `serve` count, because what is prepared depends on them.
    """
    try:
        settings = Settings.from_env(read_environment() | ({"MODEL": model} if model else {}))
        if settings.model_cache is None:
            raise click.ClickException("PREPARE=false: nothing is kept")
        logs.configure(settings.log_format, settings.log_level)
        for name, directory in settings.named_models.items():
            seconds = _prepare(settings, directory, settings.model_cache)
            click.echo(f"{name}: ready in {settings.model_cache}; loads and tests itself in {seconds:.2f} s")
    except (SettingsInvalid, SiglipEdgeError) as error:
        raise click.ClickException(str(error)) from error


def _prepare(settings: Settings, directory: Path, cache: Path) -> float:
    """Load as the server does, twice. -> seconds of the second time."""
    cpu, manifest, towers = read_cpu_budget(), Manifest.load(directory), served_towers(settings)
    wished = wishes(settings, cpu)
    candidates = tuned_plans(cache, available_providers(), cpu, manifest, wished, towers=towers)
    for _ in range(2):
        started = time.perf_counter()
        load_first_right(directory, candidates, towers=towers, cache=cache)
    return time.perf_counter() - started
