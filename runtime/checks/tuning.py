"""The plan that `siglip-edge tune` found fastest on this machine; the server reads it at every start.

A tuning is one file of the cache, `tuned/<model>/<facts>.json`, and is valid for exactly its facts: after an upgrade of
onnxruntime, or with another quota, number of workers or number of runs at once, the server looks for another file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

import msgspec

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.execution.packed_graph import machine_facts
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes, plans
from siglip_edge.runtime.machine.cpu import CpuBudget

logger = logging.getLogger("siglip_edge")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One plan, timed as the server runs it, one tower after the other."""

    plan: ExecutionPlan
    relative: float | None = None
    """Time per row divided by the default plan's: geometric mean over the towers, median over the laps."""
    row_ms: dict[Tower, float] = {}
    """Median wall milliseconds per row, without decoding and tokenization: run time / (rows * runs side by side)."""
    cosine: dict[Tower, float] = {}
    """Smallest cosine of the golden rows to FP32, per tower."""
    laps: int = 0
    refused: str = ""
    """Why the plan must not be served; empty when it may."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `siglip-edge tune` for one model, and the facts for which it is valid."""

    facts: dict[str, str]
    when: str
    """ISO date."""
    best: ExecutionPlan
    """Its `reason` says how much faster than the default it is."""
    default_ratio: float
    """Time per row of the default plan divided by that of the fastest correct plan."""
    measured: tuple[Measured, ...]
    """The default first."""


def tuned_plans(
    cache: Path | None,
    available: Collection[str],
    cpu: CpuBudget,
    manifest: Manifest,
    wishes: Wishes,
    *,
    towers: Collection[Tower] = tuple(Tower),
) -> tuple[ExecutionPlan, ...]:
    """`plans`, with the tuned plan first when `cache` holds a tuning. Raises ProviderUnavailable or ArtifactMissing."""
    tuning = cache and load_tuning(cache, tuning_facts(manifest, available, cpu, wishes, towers))
    return plans(available, cpu, manifest, wishes, tuning.best if tuning else None)


def tuning_facts(
    manifest: Manifest, available: Collection[str], cpu: CpuBudget, wishes: Wishes, towers: Collection[Tower]
) -> dict[str, str]:
    """Everything that a tuning depends on.

    `available`: onnxruntime's provider names in this environment. `wishes`: device and precision do not count, because
    `plans` checks them; the other wishes decide which runs share the cores. `towers`: the served towers.
    """
    return {
        **machine_facts(),
        "model": hashlib.sha256(msgspec.json.encode(manifest)).hexdigest(),
        "providers": " ".join(sorted(available)),
        "cpu": cpu.describe(),
        "share": f"{wishes.share(cpu)} threads, {wishes.workers} workers",
        "lanes": f"{wishes.max_concurrent_batches} runs at once, at most {wishes.batch_size} rows each",
        "towers": " ".join(sorted(towers)),
    }


def load_tuning(cache: Path, facts: dict[str, str]) -> Tuning | None:
    """The tuning for exactly these facts; None when it is missing, is damaged or belongs to another user."""
    path = _path(cache, facts)
    try:
        if path.stat().st_uid not in {0, os.geteuid()}:
            logger.warning("%s belongs to another user's account and is not used; run siglip-edge tune again", path)
            return None
        tuning = msgspec.json.decode(path.read_bytes(), type=Tuning)
    except FileNotFoundError:
        if any(path.parent.glob("*.json")):
            logger.info("this model was tuned under other conditions; run siglip-edge tune again")
        return None
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("%s cannot be read and is not used; run siglip-edge tune again: %s", path, error)
        return None
    return tuning if tuning.facts == facts else None


def save_tuning(cache: Path, tuning: Tuning) -> Path:
    """Write the tuning and return its file. Writes a temporary file and renames it, so no reader sees half a file.

    Raises OSError.
    """
    path = _path(cache, tuning.facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        beside = Path(file.name)
        try:
            file.write(msgspec.json.format(msgspec.json.encode(tuning)))
            file.flush()
            os.fsync(file.fileno())
            beside.chmod(0o644)
            beside.rename(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    return path


def _path(cache: Path, facts: dict[str, str]) -> Path:
    key = hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:32]
    return cache / "tuned" / facts["model"][:32] / f"{key}.json"
