"""What `siglip-edge tune` found fastest on this machine, kept between starts; the server asks for it at each.

A tuning is one file of the cache, `tuned/<model>/<facts>.json`, and holds for exactly those facts: an upgrade of
onnxruntime, another quota or another number of workers or of runs at once looks for another file.
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
    """One combination, timed as the server runs it, a tower at a time, both weighing the same."""

    plan: ExecutionPlan
    relative: float | None = None
    """Time a row by the default's: the geometric mean over the towers, the median of interleaved laps."""
    row_ms: dict[Tower, float] = {}
    """Median wall time a row, without decoding and tokenization; half a run's where two runs are under way."""
    cosine: dict[Tower, float] = {}
    """Least cosine of the golden rows to FP32."""
    laps: int = 0
    refused: str = ""
    """Why it must not be served, or empty."""


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, under which facts, and what it comes to."""

    facts: dict[str, str]
    when: str
    """ISO date."""
    best: ExecutionPlan
    """Its `reason` says what it gains."""
    default_ratio: float
    """Time a row of the default by that of the fastest right one."""
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
    """`plans`, the tuned one first where `cache` holds one that fits. Raises ProviderUnavailable or ArtifactMissing."""
    tuning = cache and load_tuning(cache, tuning_facts(manifest, available, cpu, wishes, towers))
    return plans(available, cpu, manifest, wishes, tuning.best if tuning else None)


def tuning_facts(
    manifest: Manifest, available: Collection[str], cpu: CpuBudget, wishes: Wishes, towers: Collection[Tower]
) -> dict[str, str]:
    """All that a tuning depends on. Of the wishes device and precision may be left open; the others decide what is run
    side by side, and so on how many threads each is fastest.

    `available`: onnxruntime's provider names in this environment. `towers`: those that are served.
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
    """The tuning for exactly these facts; None when there is none, or it is damaged or another user's."""
    path = _path(cache, facts)
    try:
        if path.stat().st_uid not in {0, os.geteuid()}:
            logger.warning("%s is another user's: not used", path)
            return None
        tuning = msgspec.json.decode(path.read_bytes(), type=Tuning)
    except FileNotFoundError:
        if any(path.parent.glob("*.json")):
            logger.info("this model was tuned under other conditions than today's; run siglip-edge tune again")
        return None
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("%s cannot be read, and is not used: %s", path, error)
        return None
    return tuning if tuning.facts == facts else None


def save_tuning(cache: Path, tuning: Tuning) -> Path:
    """Write beside and rename: a reader sees the old one or the new one. Raises OSError."""
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
