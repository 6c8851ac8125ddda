"""Opens a model directory for a command exactly as the server opens it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.open_model import PlannedModel
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.listed_models import ListedModel
from siglip_edge.server.config.missing_model import absence
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import wishes
from siglip_edge.server.config.variables import SettingsInvalid
from siglip_edge.server.models.loading import plan_as_served


def settings_with(**given: str | None) -> Settings:
    """The settings of the environment, overridden by a command's options, as in `settings_with(DEVICE="cpu")`.

    A MODEL that is given replaces MODELS of the environment too.
    Raises click.ClickException with a sentence that names the variable.
    """
    try:
        settings = read_settings(**given)
    except SettingsInvalid as error:
        raise click.ClickException(str(error)) from error
    for notice in settings.notices:
        click.echo(f"Warning: {notice}", err=True)
    return settings


def cache_of(settings: Settings) -> Path:
    """The directory that keeps the files of a command. Raises click.ClickException."""
    if not settings.prepare:
        raise click.ClickException("PREPARE=false keeps no files in CACHE_DIR; set PREPARE=true")
    if settings.model_cache is None:
        raise click.ClickException("this user has no home directory to keep files in; set CACHE_DIR")
    return settings.model_cache


def listed_model(settings: Settings, model: str) -> ListedModel:
    """A model that is given by path, or by its name in MODELS_DIR, as the server finds it."""
    (listed,) = replace(settings, model=Path(model), models=(), model_is_set=True).listed_models
    return listed


def present(models: Sequence[ListedModel]) -> dict[str, Path]:
    """Name -> model directory. Raises click.ClickException, with the command that makes one, for the first missing."""
    for sentence in filter(None, map(absence, models)):
        raise click.ClickException(sentence)
    return {model.name: model.directory for model in models}


def plan_with(settings: Settings, directory: Path, *, precision: str | None = None) -> PlannedModel:
    """Plan the directory as the server plans it. `precision`: replaces the precision of the settings; may be `auto`.

    Raises ModelError, ProviderUnavailable or click.BadParameter.
    """
    cpu = read_cpu_budget()
    wished = wishes(settings, cpu)
    if precision is not None:
        wished = in_precision(wished, precision)
    return plan_as_served(settings, directory, cpu, wished=wished)


def in_precision(wished: Wishes, precision: str) -> Wishes:
    """The same wishes in another precision. Raises click.BadParameter."""
    try:
        return replace(wished, precision=None if precision == "auto" else Precision(precision))
    except ValueError:
        known = ", ".join(Precision)
        message = f"{precision!r} is not known; give auto or one of {known}"
        raise click.BadParameter(message, param_hint="--precision") from None
