"""Plans to the first model that is right on this machine; what is wrong before it is refused, loudly."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.checks.selftest import GoldenRow, check, check_all, load_golden, mark_of, one_each
from siglip_edge.runtime.errors import BatchChangesBits, ModelError, ProviderUnavailable
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.machine.memory import give_back
from siglip_edge.runtime.model import EmbeddingModel

logger = logging.getLogger("siglip_edge")


def load_first_right(
    directory: Path,
    candidates: Sequence[ExecutionPlan],
    *,
    towers: Collection[Tower] = tuple(Tower),
    cache: Path | None = None,
    at_first_use: bool = False,
    text_first: bool = False,
) -> EmbeddingModel:
    """The model by the first of `candidates`, best first, that loads and passes its self-test here.

    Its `plan.refused` tells what was wrong with those before it; so does the log, at level ERROR. A plan whose batches
    change a row's bits is not refused: it runs one row at a time.
    `cache`: as `EmbeddingModel.load`, and it remembers which self-tests passed. Where no earlier start has tested this
    model, every tower is loaded and tested here. Else each is tested by a golden row as it is loaded: here, or, with
    `text_first`, the text tower here and the other one meanwhile, or, `at_first_use`, by its first run. What fails then
    is tested by the next start as by the first.
    Raises the first one's ModelError or ProviderUnavailable when none is right.
    """
    rows = load_golden(directory, Manifest.load(directory))
    failures: list[Exception] = []
    for candidate in candidates:
        try:
            how = {"towers": towers, "cache": cache, "at_first_use": at_first_use, "text_first": text_first}
            model = _load_as_alone(directory, candidate, rows, **how)
        except (ModelError, ProviderUnavailable) as error:
            # Made anew: a traceback holds the frames, and with them the model that failed.
            failures.append(type(error)(str(error)))
            logger.error("refused: %s: %s", candidate.place, failures[-1])  # noqa: TRY400 - the sentence says it all
        else:
            refused = [f"{plan.place}: {error}" for plan, error in zip(candidates, failures, strict=False)]
            model.plan = replace(model.plan, refused=tuple(refused))
            return model
        give_back()
    raise failures[0]


def _load_as_alone(directory: Path, plan: ExecutionPlan, rows: list[GoldenRow], **how: Any) -> EmbeddingModel:
    """`_load`, with as many rows a run as give every row the bits that it has alone."""
    try:
        return _load(directory, plan, rows, **how)
    except BatchChangesBits as error:
        because = str(error)
    give_back()  # with the error the model is gone
    logger.warning("%s runs one row at a time: %s", plan.place, because)
    alone = replace(plan.with_rows(1), reason=f"{plan.reason}; one row a run, because {because}")
    return _load(directory, alone, rows, **how)


def _load(
    directory: Path,
    plan: ExecutionPlan,
    rows: list[GoldenRow],
    *,
    towers: Collection[Tower],
    cache: Path | None,
    at_first_use: bool,
    text_first: bool,
) -> EmbeddingModel:
    model = EmbeddingModel.load(directory, plan, towers=towers, cache=cache, lazily=True)
    model.test_loads(partial(_test, model, one_each(rows)))
    mark = mark_of(model, cache and cache / "passed")
    has_passed = mark is not None and mark.exists()
    try:
        if not at_first_use:
            model.load_text_first() if text_first and has_passed else model.load_towers()
        if not has_passed:
            check_all(model, rows, mark)
    except BaseException:
        _forget(mark)
        raise
    model.loading.add_done_callback(lambda loading: _forget(mark) if loading.exception() else None)
    if at_first_use:
        for tower in model.loaded():
            model.unload(tower)
    return model


def _forget(mark: Path | None) -> None:
    """What fails after it has passed is tested in full by the next start, which can then turn to another plan."""
    if mark is not None:
        with suppress(OSError):
            mark.unlink()


def _test(model: EmbeddingModel, rows: Sequence[GoldenRow], tower: Tower) -> None:
    check(model, [row for row in rows if row.tower is tower])
    logger.info("%s tower loaded and tested", tower)
