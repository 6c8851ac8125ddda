"""`open_model`: from a model directory and the operator's wishes to a model that passed its self-test on this machine.

The server, the command line, the benchmarks and scripts all open models here. The same settings therefore give all of
them the same plan, cache and self-test, and the same next plan when a plan is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import MANIFEST, Manifest, Tower
from siglip_edge.runtime.checks.kernels import check_kernels, warn_of_release, with_right_products
from siglip_edge.runtime.checks.selftest import GoldenRow, check, check_all, load_golden, mark_of, one_each
from siglip_edge.runtime.checks.tuning import tuned_plans
from siglip_edge.runtime.errors import ArtifactMissing, BatchChangesBits, ModelError, ProviderUnavailable
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import CpuBudget, read_cpu_budget
from siglip_edge.runtime.machine.memory import give_back
from siglip_edge.runtime.model import EmbeddingModel

logger = logging.getLogger("siglip_edge")


class LoadTime(Enum):
    """When a model's towers are loaded. A model that never passed its self-test here loads all of them at once."""

    AT_ONCE = "at once"
    TEXT_FIRST = "text first"
    """`open` returns after loading the text tower; a thread loads the vision tower (`EmbeddingModel.loading`)."""
    FIRST_USE = "first use"
    """Each tower is loaded by its first run."""


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """A model directory and the plans to try on this machine, best first."""

    directory: Path
    manifest: Manifest
    plans: tuple[ExecutionPlan, ...]
    towers: tuple[Tower, ...]
    cache: Path | None

    @property
    def created(self) -> int:
        """When the directory's manifest was written here, in Unix seconds."""
        return int((self.directory / MANIFEST).stat().st_mtime)

    def open(self, when: LoadTime = LoadTime.AT_ONCE) -> EmbeddingModel:
        """Open the model with the first plan that passes the kernel check, loads and passes its self-test.

        Refused plans stand with their reasons in `model.plan.refused` and in the log (level ERROR). A plan whose
        batches change a row's bits is not refused: it runs one row at a time.

        The first start loads every tower and tests it in full. Later starts test each tower with one golden row when it
        is loaded; after a failure the next start tests in full again.
        Raises the first plan's ModelError or ProviderUnavailable when every plan is refused.
        """
        rows = load_golden(self.directory, self.manifest)
        failures: list[Exception] = []
        for plan in map(with_right_products, self.plans):
            try:
                model = self._open_with(plan, rows, when)
            except (ModelError, ProviderUnavailable) as error:
                # A copy without traceback, because the traceback's frames would keep the failed model in memory.
                failures.append(type(error)(str(error)))
                logger.error("refused: %s: %s", plan.place, failures[-1])  # noqa: TRY400 - the sentence says it all
            else:
                refused = [f"{plan.place}: {error}" for plan, error in zip(self.plans, failures, strict=False)]
                model.plan = replace(model.plan, refused=tuple(refused))
                return model
            give_back()
        raise failures[0]

    def _open_with(self, plan: ExecutionPlan, rows: list[GoldenRow], when: LoadTime) -> EmbeddingModel:
        """`_load`, with one row per run when a batch changes a row's bits."""
        try:
            return self._load(plan, rows, when)
        except BatchChangesBits as error:
            because = str(error)
        give_back()  # outside `except`, where the error no longer holds the model
        logger.warning("%s runs one row at a time: %s", plan.place, because)
        alone = replace(plan.with_rows(1), reason=f"{plan.reason}; one row per run, because {because}")
        return self._load(alone, rows, when)

    def _load(self, plan: ExecutionPlan, rows: list[GoldenRow], when: LoadTime) -> EmbeddingModel:
        check_kernels(plan)
        model = EmbeddingModel.load(self.directory, plan, towers=self.towers, cache=self.cache, lazily=True)
        model.test_loads(partial(_test, model, one_each(rows)))
        mark = mark_of(model, self.cache and self.cache / "passed")
        has_passed = mark is not None and mark.exists()
        try:
            _LOADS[when if has_passed else LoadTime.AT_ONCE](model, partial(_forget, mark))
            if not has_passed:
                check_all(model, rows, mark)
        except BaseException:
            _forget(mark)
            raise
        if when is LoadTime.FIRST_USE:
            for tower in model.loaded():
                model.unload(tower)
        return model


def plan_model(
    directory: Path,
    wishes: Wishes,
    *,
    towers: Collection[Tower] = tuple(Tower),
    cache: Path | None = None,
    cpu: CpuBudget | None = None,
) -> PlannedModel:
    """Read the manifest and plan for this machine, without loading a tower.

    `towers`: the towers to serve; towers that the model lacks are ignored. `cache`: directory that keeps packed graphs,
    verified checksums, passed self-tests and tunings between starts; None: they are not kept.
    `cpu`: measured when None.
    Raises ManifestInvalid, ArtifactMissing or ProviderUnavailable.
    """
    warn_of_release()
    manifest = Manifest.load(directory)
    served = tuple(tower for tower in manifest.tower_names if tower in towers)
    if not served:
        message = f"{manifest.name}: this model has no {' and no '.join(towers)} tower, only {manifest.tower_names[0]}"
        raise ArtifactMissing(f"{message}; set TOWERS=both, or leave the model out")
    plans = tuned_plans(cache, available_providers(), cpu or read_cpu_budget(), manifest, wishes, towers=served)
    return PlannedModel(directory=directory, manifest=manifest, plans=plans, towers=served, cache=cache)


def open_model(
    directory: Path,
    wishes: Wishes = Wishes(),  # noqa: B008 - frozen
    *,
    towers: Collection[Tower] = tuple(Tower),
    cache: Path | None = None,
    when: LoadTime = LoadTime.AT_ONCE,
) -> EmbeddingModel:
    """Plan with `plan_model`, then open. Raises ModelError or ProviderUnavailable, each with one sentence."""
    return plan_model(directory, wishes, towers=towers, cache=cache).open(when)


_LOADS: dict[LoadTime, Callable[[EmbeddingModel, Callable[[], None]], None]] = {
    LoadTime.AT_ONCE: lambda model, forget: model.load_towers(),  # noqa: ARG005
    LoadTime.TEXT_FIRST: EmbeddingModel.load_text_first,
    LoadTime.FIRST_USE: lambda model, forget: None,  # noqa: ARG005 - loads nothing now
}
"""Load the towers that `open` waits for. `forget()` is called when a tower fails to load after that."""


def _forget(mark: Path | None) -> None:
    """Remove the mark after a failure, so that the next start tests in full and can choose another plan."""
    if mark is not None:
        with suppress(OSError):
            mark.unlink()


def _test(model: EmbeddingModel, rows: Sequence[GoldenRow], tower: Tower) -> None:
    check(model, [row for row in rows if row.tower is tower])
    logger.info("%s: %s tower loaded and tested", model.manifest.name, tower)
