"""Decides the execution provider, the precision, the threads and the rows per run, and says why. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.errors import ArtifactMissing, ProviderUnavailable
from siglip_edge.runtime.machine.cpu import INT8_DOT_PRODUCTS, CpuBudget

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

_PROVIDER_OF_DEVICE = {"cpu": CPU, "cuda": CUDA, "openvino": OPENVINO}

_WHERE = {
    "cuda": " in an environment of its own, on a machine with an NVIDIA GPU",
    "openvino": ", on a machine with an Intel CPU or GPU",
}
"""Where the provider of a named device works."""

_PREFERENCE: Mapping[str, tuple[Precision, ...]] = {
    # INT8 suits the CPU of an edge machine. FP16 graphs are computed in float32 there: more memory and no speed.
    # INT4 is last: it takes the least memory, but its weights are widened to float32 and take the time of FP32.
    CPU: (Precision.INT8, Precision.FP32, Precision.FP16, Precision.INT4),
    OPENVINO: (Precision.INT8, Precision.FP16, Precision.FP32, Precision.INT4),
    # CUDA runs each QDQ node on its own, which is slower than FP16 on tensor cores.
    CUDA: (Precision.FP16, Precision.FP32, Precision.INT8, Precision.INT4),
}

_MOST_ROWS = 8
"""Rows per run. More rows save little time, but take memory and make the first row wait longer."""

_FULL_RUN = 2e9
"""Multiplications that keep a run busy; rows share a run up to this cost.

A small row spends most of its run on starting operators, which several rows can share. Two large rows do not fit the
caches. docs/decisions/batch-limits-by-cost.md has the measurements.
"""

_FULL_TOKENS = 128
"""Tokens or patches that may always share a run. A run of 64 tokens, one text of a base model, waits for its weights to
come from memory; a second text uses the same weights (docs/decisions/batch-limits-by-cost.md).
"""

_LONG_ROW = 1024
"""Tokens or patches of a row above which fewer rows share a run on OpenVINO and CUDA: of 8192 tokens, an eighth."""

_WORTH_A_THREAD = 0.5e9
"""Multiplications per thread of a lone row. Threads with less work wait for each other longer than they work
(docs/decisions/batch-limits-by-cost.md)."""

_MOST_RUNS_AT_ONCE = 4
"""Each run has its own buffers: 12 MB for an image of a base model (docs/decisions/runs-side-by-side.md)."""


@dataclass(frozen=True, kw_only=True)
class BatchLimit:
    """The most rows, and the greatest total cost, of one run of a tower. None: no limit."""

    rows: int | None = None
    cost: int | None = None
    """In tokens or patches; a row that is alone may cost more."""

    def allows(self, rows: int, cost: int) -> bool:
        """Whether `rows` rows that have `cost` tokens or patches together may share a run."""
        within_rows = self.rows is None or rows <= self.rows
        return rows <= 1 or (within_rows and (self.cost is None or cost <= self.cost))


ONE_ROW = BatchLimit(rows=1)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The operator's settings for execution."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `openvino` or `openvino:GPU`. A named device that is missing is an error."""
    precision: Precision | None = None
    """None: the provider's preferred precision that passes the self-test."""
    workers: int = 1
    """Processes that share this machine."""
    intra_op_threads: int | None = None
    max_concurrent_batches: int | None = None
    """Greatest number of runs under way at once, over all towers; None: decided from the number of threads."""
    batch_size: int = 32
    """Most rows per run; the plan allows fewer when more rows save no time."""

    def share(self, cpu: CpuBudget) -> int:
        """Number of intra-op threads that a worker may start."""
        return self.intra_op_threads or max(1, cpu.cores // self.workers)


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How a model directory is run on this machine. `reason` explains it in the start-up log and `/health`."""

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    precision: Precision
    intra_op_threads: int
    """Threads of a lone run; runs side by side share them."""
    runs_at_once: int = 1
    """Planned number of runs of one tower side by side."""
    batch_limits: Mapping[Tower, BatchLimit] = field(default_factory=dict)
    """Batch limit per tower; a tower without an entry runs one row at a time, so that a row's bits do not depend on the
    batch. Where the limit allows more rows, the self-test checks that."""
    allow_spinning: bool = False
    """Whether idle threads spin, which makes each of them use a whole core; a server on two cores needs that core."""
    signed_products: bool = False
    """Whether uint8 activations are multiplied by int8 activations as they are (attention's products). Only where the
    CPU adds the products in 32 bits (VNNI): elsewhere their sums saturate, and onnxruntime makes both sides uint8."""
    reason: str
    refused: tuple[str, ...] = ()
    """The plans that were tried earlier, each with the reason why it is not used."""

    def batch_limit(self, tower: Tower) -> BatchLimit:
        """The batch limit of this tower."""
        return self.batch_limits.get(tower, ONE_ROW)

    def rows(self, tower: Tower) -> int | None:
        """Most rows per run of this tower; None: no limit."""
        return self.batch_limit(tower).rows

    def with_rows(self, rows: int | None) -> ExecutionPlan:
        """The same plan with at most `rows` rows per run of each tower, whatever their cost."""
        return replace(self, batch_limits={tower: BatchLimit(rows=rows) for tower in Tower})

    @property
    def shared_threads(self) -> int:
        """Threads per run when the planned number of runs is under way."""
        return -(-self.intra_op_threads // self.runs_at_once)

    @property
    def device(self) -> str:
        """As the setting DEVICE spells it: `cpu`, `cuda`, `cuda:1`, `openvino`, `openvino:GPU`."""
        detail = self.provider_options.get("device_id", "0") if self.provider == CUDA else self._openvino_device
        name = next((name for name, provider in _PROVIDER_OF_DEVICE.items() if provider == self.provider), "cpu")
        return name if detail in {"0", "CPU"} else f"{name}:{detail}"

    @property
    def device_type(self) -> str:
        """The kind of processor: `cpu`, `cuda`, or `gpu` and `npu` by OpenVINO."""
        return "cuda" if self.provider == CUDA else self._openvino_device.partition(".")[0].lower()

    @property
    def _openvino_device(self) -> str:
        return self.provider_options.get("device_type", "CPU")

    @property
    def place(self) -> str:
        """As in "int8 on CPUExecutionProvider"."""
        return f"{self.precision} on {self.provider}"


def plan(available: Collection[str], cpu: CpuBudget, manifest: Manifest, wishes: Wishes) -> ExecutionPlan:
    """The first of `plans`, without a tuning."""
    return plans(available, cpu, manifest, wishes)[0]


def plans(
    available: Collection[str],
    cpu: CpuBudget,
    manifest: Manifest,
    wishes: Wishes,
    measured: ExecutionPlan | None = None,
) -> tuple[ExecutionPlan, ...]:
    """The plans to try, best first; when a plan cannot be loaded or fails its self-test, the next follows. Never empty.

    A device or precision that the wishes name is the same in every plan; with `auto`, plans differ in it. `available`:
    onnxruntime's provider names in this environment. `measured`: the plan that `siglip-edge tune` found fastest; when
    it fits the wishes it comes first, with at most the threads that the wishes allow.

    Raises ProviderUnavailable or ArtifactMissing when the named device or precision is not available.
    """
    targets, precision = _targets(available, wishes.device, cpu), wishes.precision
    _check_precision(manifest, precision)
    threads = wishes.share(cpu)
    place = f"{cpu.describe()}, {wishes.workers} workers"
    preferred = [
        ExecutionPlan(
            provider=target.provider,
            provider_options=target.options,
            precision=one,
            signed_products=adds_in_32_bits(cpu) and (target.provider, one) == (CPU, Precision.INT8),
            **runs,
            reason=f"{target.why}; {_choice(target.provider, one, rank, asked=precision is not None)}; "
            f"{_in_words(runs, threads)}: {place}",
        )
        for target in targets
        for one, rank in _ranked(target.provider, manifest)
        if precision in {one, None}
        for runs in [_runs(target.provider, one, threads, manifest, wishes)]
    ]
    first = next((one for one in preferred if measured and _target(one) == _target(measured)), None)
    if measured is None or first is None:
        return tuple(preferred)
    fitted = replace(
        measured,
        intra_op_threads=min(threads, measured.intra_op_threads),
        runs_at_once=min(threads, measured.runs_at_once),
    )
    return (fitted, *(one for one in preferred if one is not first))


def adds_in_32_bits(cpu: CpuBudget) -> bool:
    """Whether this CPU multiplies bytes without a sum that can saturate."""
    return not INT8_DOT_PRODUCTS.isdisjoint(cpu.isa)


def _choice(provider: str, precision: Precision, rank: str, *, asked: bool) -> str:
    """As in "int8 preferred there"."""
    computed = ", computed in fp32 in more memory" if (provider, precision) == (CPU, Precision.FP16) else ""
    return f"{precision} {'as asked' if asked else rank}{computed}"


def _in_words(runs: Mapping[str, Any], threads: int) -> str:
    alone = runs["intra_op_threads"]
    return f"{threads} threads" if alone == threads else f"{threads} threads, {alone} for a lone run"


def _runs_at_once(threads: int, most: int) -> int:
    """The number of runs, at most `most`, that share the threads so that each run has a thread and no core is idle."""
    share = -(-threads // min(most, _MOST_RUNS_AT_ONCE))
    return -(-threads // share)


@dataclass(frozen=True)
class _Target:
    provider: str
    options: Mapping[str, str]
    why: str


def _target(one: ExecutionPlan) -> tuple[str, Mapping[str, str], Precision]:
    """The parts of a plan that the operator can name."""
    return one.provider, one.provider_options, one.precision


def _targets(available: Collection[str], device: str, cpu: CpuBudget) -> list[_Target]:
    name, _, detail = device.partition(":")
    if name == "auto":
        return _targets_there(available, cpu)
    provider = _PROVIDER_OF_DEVICE.get(name)
    if provider is None:
        raise ProviderUnavailable(
            f"device {device!r} is not known; use auto, cpu, cuda, cuda:N, openvino or openvino:GPU"
        )
    if provider not in available:
        have = ", ".join(sorted(available))
        raise ProviderUnavailable(
            f"device {device!r}: onnxruntime here offers {have} only; install siglip-edge[{name}]{_WHERE.get(name, '')}"
        )
    options = {CUDA: {"device_id": detail or "0"}, OPENVINO: {"device_type": detail or "CPU"}}.get(provider, {})
    return [_Target(provider, options, f"{device} as asked")]


def _targets_there(available: Collection[str], cpu: CpuBudget) -> list[_Target]:
    """The available targets, best first: CUDA, then OpenVINO before the CPU with VNNI and after the CPU without VNNI.

    Without VNNI, OpenVINO takes more time than the CPU provider for the same INT8 towers (docs/providers.md).
    """
    cuda = _Target(CUDA, {"device_id": "0"}, "CUDA is here")
    openvino = _Target(OPENVINO, {"device_type": "CPU"}, "OpenVINO is here")
    if adds_in_32_bits(cpu):
        order = [cuda, openvino, _Target(CPU, {}, "CPU")]
    else:
        order = [cuda, _Target(CPU, {}, "CPU, faster than OpenVINO without VNNI"), openvino]
    there = [target for target in order if target.provider in {CPU, *available}]
    return there if len(there) > 1 else [_Target(CPU, {}, "no CUDA or OpenVINO in this environment; CPU")]


def _runs(provider: str, precision: Precision, threads: int, manifest: Manifest, wishes: Wishes) -> dict[str, Any]:
    """The plan's fields for threads, runs side by side and rows per run.

    Several rows share a run only where a row's bits do not depend on the other rows: INT8 on the CPU, and OpenVINO. The
    self-test checks that. CUDA promises no equal bits and always batches.
    """
    towers = manifest.tower_names
    if provider == CUDA:
        limits = {tower: _limit_of_rows(manifest, tower, wishes.batch_size) for tower in towers}
        return {"intra_op_threads": threads, "batch_limits": limits}
    if provider == OPENVINO:
        limits = {tower: _limit_of_rows(manifest, tower, min(wishes.batch_size, _MOST_ROWS)) for tower in towers}
        return {"intra_op_threads": threads, "batch_limits": limits}
    runs = _runs_at_once(threads, wishes.max_concurrent_batches or threads)
    if precision is not Precision.INT8:
        return {"intra_op_threads": threads, "runs_at_once": runs, "batch_limits": dict.fromkeys(towers, ONE_ROW)}
    row = max(_weights(manifest, tower) * _longest(manifest, tower) for tower in towers)
    return {
        # When only one run is possible, its rows alone must fill the cores.
        "intra_op_threads": min(threads, math.ceil(row / _WORTH_A_THREAD)) if runs > 1 else threads,
        "runs_at_once": runs,
        "batch_limits": {tower: _batch_limit(manifest, tower, wishes) for tower in towers},
    }


def _limit_of_rows(manifest: Manifest, tower: Tower, rows: int) -> BatchLimit:
    """Up to `rows` rows whatever their cost; fewer rows that are long, because the buffers of a run grow with them."""
    return BatchLimit(rows=rows, cost=rows * _LONG_ROW if _longest(manifest, tower) > _LONG_ROW else None)


def _batch_limit(manifest: Manifest, tower: Tower, wishes: Wishes) -> BatchLimit:
    """The cost that keeps a run busy, and the number of the tower's shortest rows that have this cost."""
    cost = max(int(_FULL_RUN // _weights(manifest, tower)), _FULL_TOKENS)
    rows = min(wishes.batch_size, _MOST_ROWS, cost // _shortest(manifest, tower))
    return BatchLimit(rows=max(1, rows), cost=cost)


def _weights(manifest: Manifest, tower: Tower) -> int:
    """Approximate multiplications per token or patch: an INT8 weight takes a byte and is used once per token."""
    artifact = manifest.artifact(tower, Precision.INT8)
    return sum(record.size for record in (artifact.graph, *artifact.external_data))


def _longest(manifest: Manifest, tower: Tower) -> int:
    """Cost of the longest row, in tokens or patches."""
    return manifest.vision.geometry.most_patches if tower is Tower.VISION else manifest.text.length


def _shortest(manifest: Manifest, tower: Tower) -> int:
    """Cost of the shortest row, in tokens or patches."""
    return manifest.vision.geometry.fewest_patches if tower is Tower.VISION else manifest.text.fewest_tokens


def _ranked(provider: str, manifest: Manifest) -> list[tuple[Precision, str]]:
    """The manifest's precisions in the provider's order of preference, each with its rank in words."""
    have = manifest.precisions()
    first, *others = [precision for precision in _PREFERENCE[provider] if precision in have]
    return [(first, "preferred there"), *((precision, "second choice there") for precision in others)]


def _check_precision(manifest: Manifest, wanted: Precision | None) -> None:
    have = manifest.precisions()
    if not have:
        raise ArtifactMissing(f"{manifest.name}: no precision in which every tower is present; run the export again")
    if wanted is not None and wanted not in have:
        raise ArtifactMissing(
            f"{manifest.name}: no {wanted} artifacts (it has {', '.join(have)}); export them or set PRECISION=auto"
        )
