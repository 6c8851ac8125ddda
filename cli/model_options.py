"""A model directory opened for a command, as the server would open it."""

from __future__ import annotations

from pathlib import Path

import click

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.checks.tuning import tuned_plans
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.config.settings import Settings, SettingsInvalid, read_environment


def wishes_of(device: str, precision: str) -> Wishes:
    """Options -> wishes; `precision` may be `auto`."""
    try:
        return Wishes(device=device, precision=None if precision == "auto" else Precision(precision))
    except ValueError:
        known = ", ".join(Precision)
        raise click.BadParameter(f"{precision!r}; auto or one of {known}", param_hint="--precision") from None


def candidates(manifest: Manifest, wishes: Wishes) -> tuple[ExecutionPlan, ...]:
    """Plans for this machine, best first: what `tune` found comes first here as in the server.

    Raises ModelError, ProviderUnavailable or, for an environment that cannot be read, click.ClickException.
    """
    try:
        cache = Settings.from_env(read_environment()).model_cache
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from error
    return tuned_plans(cache, available_providers(), read_cpu_budget(), manifest, wishes)


def open_model(directory: Path, wishes: Wishes) -> EmbeddingModel:
    """Plan for this machine and load both towers. Raises ModelError or ProviderUnavailable."""
    return EmbeddingModel.load(directory, candidates(Manifest.load(directory), wishes)[0])
