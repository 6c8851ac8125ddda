"""A model directory opened for a command, as the server would open it."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.cpu import read_cpu_budget
from runtime.manifest import Manifest, Precision
from runtime.model import SiglipModel
from runtime.providers import Wishes, plan
from runtime.session import available_providers


def wishes_of(device: str, precision: str) -> Wishes:
    """Options -> wishes; `precision` may be `auto`."""
    try:
        return Wishes(device=device, precision=None if precision == "auto" else Precision(precision))
    except ValueError:
        known = ", ".join(Precision)
        raise click.BadParameter(f"{precision!r}; auto or one of {known}", param_hint="--precision") from None


def open_model(directory: Path, wishes: Wishes) -> SiglipModel:
    """Plan for this machine and load both towers. Raises ModelError or ProviderUnavailable."""
    manifest = Manifest.load(directory)
    return SiglipModel.load(directory, plan(available_providers(), read_cpu_budget(), manifest, wishes))
