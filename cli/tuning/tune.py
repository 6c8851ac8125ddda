"""`siglip-edge tune`: times the execution plans of a model on this machine and keeps the fastest correct plan."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from filelock import FileLock, Timeout

from siglip_edge.cli.model_options import cache_of, present, settings_with
from siglip_edge.cli.paths import GivenPath
from siglip_edge.cli.table import columns
from siglip_edge.cli.timed_rows import PASSAGE, timed_lengths
from siglip_edge.cli.tuning.candidates import candidates
from siglip_edge.cli.tuning.race import Entrant, choose, race, timed
from siglip_edge.cli.tuning.timing import ModelTrial
from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.selftest import GoldenRow
from siglip_edge.runtime.checks.tuning import Measured, Tuning, save_tuning, tuning_facts
from siglip_edge.runtime.errors import SelfTestFailed, SiglipEdgeError
from siglip_edge.runtime.execution.plan import ExecutionPlan, plans
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import read_cpu_budget, read_cpu_use
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import wishes
from siglip_edge.server.models.loading import plan_as_served
from siglip_edge.server.observability import logs

QUIET = 0.1
"""Share of the CPUs. When other processes use more, plans with few threads look best; the plan's reason says so."""


class Seconds(click.FloatRange):
    """A number of seconds; `nan`, which no comparison refuses, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return seconds


@click.command("tune")
@click.argument("model", required=False, type=GivenPath())
@click.option("--budget", type=Seconds(min=1, max=86_400), default=60.0, show_default=True, help="Seconds of timing.")
@click.option("--device", help="Try only this device [DEVICE].")
@click.option("--precision", help="Try only this precision [PRECISION].")
@click.option("--towers", help="Towers that will be served [TOWERS].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(  # noqa: PLR0917 - click passes by name
    model: str | None, budget: float, device: str | None, precision: str | None, towers: str | None, as_json: bool
) -> None:
    """Time the plans of MODEL [MODEL] on this machine; servers with the same WORKERS, TOWERS and CPUs use the fastest.

    The environment variables of `serve` apply. Stop the server and other programs meanwhile.
    """
    settings = settings_with(MODEL=model, DEVICE=device, PRECISION=precision, TOWERS=towers)
    try:
        logs.configure(settings.log_format, "error")  # the table tells more than a warning per lap would
        tunings = [tune(settings, directory, budget) for directory in present(settings.listed_models).values()]
    except SiglipEdgeError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(tunings)))
    else:
        click.echo("\n\n".join(map(render, tunings)))


def tune(settings: Settings, directory: Path, budget_s: float) -> Tuning:
    """Time the plans and keep the best. Raises ModelError, ProviderUnavailable or click.ClickException."""
    cpu = read_cpu_budget()
    served = plan_as_served(settings, directory, cpu)
    manifest, towers = served.manifest, served.towers
    wished, available = wishes(settings, cpu), available_providers()
    preferred = plans(available, cpu, manifest, wished)
    tried = candidates(
        preferred,
        most_threads=wished.share(cpu),
        most_rows=settings.batch_size,
        row_costs={tower: cost for tower in towers if (cost := timed_lengths(manifest, tower, PASSAGE)[-1])},
    )
    golden = _golden(directory, manifest, towers)
    with _scratch(cache_of(settings)) as (cache, scratch):
        trial = ModelTrial(directory, towers, golden, scratch)
        before = read_cpu_use()
        entrants = race(trial, tried, budget_s)
        others = read_cpu_use().others_since(before, cpu.logical)
        winner = choose(trial, entrants)
        if winner is None:
            raise SelfTestFailed(f"{manifest.name}: no plan passes the self-test here: {entrants[0].refused}")
        facts = tuning_facts(manifest, available, cpu, wished, towers)
        tuning = conclude(entrants, winner, facts, datetime.now(UTC).date(), others)
        # The server will load it like this: packed, and tested with every golden row.
        replace(plan_as_served(settings, directory, cpu), plans=(tuning.best,)).open()
        save_tuning(cache, tuning)
    return tuning


def conclude(
    entrants: Sequence[Entrant], winner: Entrant, facts: dict[str, str], today: date, others: float = 0.0
) -> Tuning:
    """The tuning to save. `others`: share of the CPUs that other processes used meanwhile, from 0 to 1."""
    default = timed(entrants)[0]
    gain = "as by default" if winner is default else f"{1 / winner.relative(default):.2f}x the default"
    busy = f", while others used {others:.0%} of the CPUs" if others > QUIET else ""
    reason = f"tuned here on {today.isoformat()}: {described(winner.plan)}, {gain}{busy}"
    return Tuning(
        facts=facts,
        when=today.isoformat(),
        best=replace(winner.plan, reason=reason),
        default_ratio=round(1 / min(one.relative(default) for one in timed(entrants)), 3),
        measured=tuple(_measured(one, default) for one in entrants),
    )


def render(tuning: Tuning) -> str:
    """A table of the plans, fastest first, and the decision."""
    rows = sorted(tuning.measured, key=lambda one: (bool(one.refused), one.relative or math.inf))
    default = tuning.measured[0]
    compared = "is refused" if default.refused else f"takes {tuning.default_ratio:.2f}x the time of the fastest plan."
    return "\n".join([
        *columns(_HEADER, [_cells(one, is_best=_same(one.plan, tuning.best)) for one in rows]),
        *(f"refused: {place}: {reason}" for place, reason in _refusals(tuning.measured).items()),
        f"The default ({described(default.plan)}) {compared}",
        f"Kept: {tuning.best.reason}",
    ])  # fmt: skip


_KINDS = {Tower.VISION: "images", Tower.TEXT: "texts"}


def described(plan: ExecutionPlan) -> str:
    """As in `int8 on CPU, 2 threads, 2 runs at once`."""
    parts = [
        f"{plan.precision} on {plan.provider.removesuffix('ExecutionProvider')}",
        f"{plan.intra_op_threads} thread{'s' if plan.intra_op_threads > 1 else ''}",
        f"{plan.runs_at_once} runs at once" if plan.runs_at_once > 1 else "",
        "spinning" if plan.allow_spinning else "",
        *(f"{rows} {kind} per run" for tower, kind in _KINDS.items() if (rows := plan.rows(tower) or 1) > 1),
    ]
    return ", ".join(part for part in parts if part)


_HEADER = ["", "combination", "image ms", "text ms", "of the default", "laps", "least cosine to FP32"]


def _cells(one: Measured, *, is_best: bool) -> list[str]:
    return [
        "*" if is_best else "",
        described(one.plan),
        *(f"{one.row_ms[tower]:.2f}" if tower in one.row_ms else "" for tower in (Tower.VISION, Tower.TEXT)),
        f"{one.relative:.3f}" if one.relative else "",
        str(one.laps),
        "refused" if one.refused else ", ".join(f"{tower} {cosine:.4f}" for tower, cosine in one.cosine.items()),
    ]


def _refusals(measured: Sequence[Measured]) -> dict[str, str]:
    """Plan -> cause of its refusal. Each cause appears once, because all plans of a precision share it."""
    causes = {one.refused: described(one.plan) for one in reversed(measured) if one.refused}
    return {place: cause for cause, place in causes.items()}


def _measured(one: Entrant, default: Entrant) -> Measured:
    return Measured(
        plan=one.plan,
        relative=round(one.relative(default), 4) if one.laps else None,
        row_ms={tower: round(ms, 3) for tower, ms in one.row_ms.items()},
        cosine=one.cosines,
        laps=len(one.laps),
        refused=one.refused,
    )


def _same(plan: ExecutionPlan, other: ExecutionPlan) -> bool:
    return replace(plan, reason="") == replace(other, reason="")


def _golden(directory: Path, manifest: Manifest, towers: Sequence[Tower]) -> list[GoldenRow]:
    rows = selftest.load_golden(directory, manifest)
    if untested := set(towers) - {row.tower for row in rows}:
        message = f"{manifest.name} holds no golden rows of its {' and '.join(sorted(untested))} tower"
        raise SelfTestFailed(f"{message}, so a fast plan could give wrong embeddings; run the export again")
    return rows


@contextmanager
def _scratch(cache: Path) -> Iterator[tuple[Path, Path]]:
    """-> the cache, and a temporary directory in it for packed graphs. Locked: two races would disturb each other."""
    scratch = cache / "tuning"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "tuning.lock", timeout=0):
            try:
                yield cache, scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    except Timeout:
        raise click.ClickException(f"{cache}: another tune is running; wait until it ends") from None
    except OSError as error:
        message = f"{cache}: {error.strerror or error}; the tuning is saved there: set CACHE_DIR to another directory"
        raise click.ClickException(message) from error
