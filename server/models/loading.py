"""Settings -> served models: their directories, their execution plans, and the time at which each one loads."""

from __future__ import annotations

from pathlib import Path

from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.runtime.open_model import LoadTime, PlannedModel, plan_model
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import served_towers, wishes
from siglip_edge.server.models.served_model import ServedModel


def plan_served(settings: Settings, cpu: CpuBudget) -> list[ServedModel]:
    """-> every model of the settings, the default first. Loads nothing. Raises ModelError or ProviderUnavailable."""
    default, *others = settings.listed_models
    first_use = settings.load_towers == "first-use"
    times = [(default, LoadTime.TEXT_FIRST), *((one, LoadTime.AT_ONCE) for one in others)]
    return [
        ServedModel.planned(
            listed, plan_as_served(settings, listed.directory, cpu), LoadTime.FIRST_USE if first_use else when
        )
        for listed, when in times
    ]


def plan_as_served(
    settings: Settings, directory: Path, cpu: CpuBudget, *, wished: Wishes | None = None
) -> PlannedModel:
    """Plan one directory. The server and every command call this function, so that they plan alike.

    `wished`: wishes that replace those of the settings. Raises ModelError or ProviderUnavailable.
    """
    return plan_model(
        directory,
        wished or wishes(settings, cpu),
        towers=served_towers(settings),
        cache=settings.model_cache,
        cpu=cpu,
    )
