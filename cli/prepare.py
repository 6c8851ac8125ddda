"""`siglip-edge prepare`: does the work of a model's first start in advance."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click

from siglip_edge.cli.model_options import cache_of, plan_with, present, settings_with
from siglip_edge.cli.paths import GivenPath
from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import SiglipEdgeError
from siglip_edge.runtime.execution.packed_graph import PackingFailed, packed_graph
from siglip_edge.runtime.execution.plan import CPU
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.observability import logs


@click.command("prepare")
@click.argument("model", required=False, type=GivenPath())
def command(model: str | None) -> None:
    """Pack MODEL [MODEL] for this machine and test it, so that the next start of the server only maps the files.

    The packed graphs are kept in CACHE_DIR. The environment variables of `serve` apply, because they decide which files
    a start needs.
    """
    settings = settings_with(MODEL=model)
    cache = cache_of(settings)
    _check_writable(cache)
    logs.configure(settings.log_format, settings.log_level)
    try:
        for name, directory in present(settings.listed_models).items():
            click.echo(f"{name}: {_prepare(settings, directory, cache)}")
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error


def _check_writable(cache: Path) -> None:
    """Raise click.ClickException when no file can be kept in the cache directory."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as error:
        message = f"{cache}: {error.strerror or error}; nothing can be kept there: set CACHE_DIR to another directory"
        raise click.ClickException(message) from error


def _prepare(settings: Settings, directory: Path, cache: Path) -> str:
    """Open the model twice as the server does. -> what is kept, and the seconds that the second opening took."""
    planned = plan_with(settings, directory)
    planned.open()
    started = time.perf_counter()
    model = planned.open()
    seconds = time.perf_counter() - started
    return f"{kept(planned.directory, model, cache)}; loads and passes its test in {seconds:.2f} s"


def kept(directory: Path, model: EmbeddingModel, cache: Path) -> str:
    """As in "ready in /var/cache/siglip-edge", or with the reason why a graph is not kept there."""
    if model.plan.provider != CPU:
        return f"nothing to pack, because {model.plan.provider} takes the graphs as they are"
    unpacked = {tower: reason for tower in model.towers if (reason := _not_packed(directory, model, tower, cache))}
    if not unpacked:
        return f"ready in {cache}"
    reasons = "; ".join(f"the {tower} tower stays unpacked: {reason}" for tower, reason in unpacked.items())
    return f"ready in {cache}, but {reasons}" if len(unpacked) < len(model.towers) else f"nothing is kept: {reasons}"


def _not_packed(directory: Path, model: EmbeddingModel, tower: Tower, cache: Path) -> str | None:
    """Why the cache holds no packed graph of this tower; None when it holds one."""
    artifact = model.manifest.artifact(tower, model.plan.precision)
    try:
        packed_graph(directory, artifact, model.plan, cache / "prepared", ChecksumCache(cache / "verified"))
    except PackingFailed as error:
        return str(error)
    return None
