"""Facts to decision: which execution provider, which precision, how many threads, and why. Pure."""

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

_PREFERENCE: Mapping[str, tuple[Precision, ...]] = {
    # INT8 is what fits an edge CPU; FP16 graphs are computed in float32 there, twice the memory for no speed.
    # INT4 is for whoever asks: the least memory, but its weights are widened to float32 and take FP32's time.
    CPU: (Precision.INT8, Precision.FP32, Precision.FP16, Precision.INT4),
    OPENVINO: (Precision.INT8, Precision.FP16, Precision.FP32, Precision.INT4),
    # QDQ nodes run one by one on CUDA, slower than FP16 on tensor cores.
    CUDA: (Precision.FP16, Precision.FP32, Precision.INT8, Precision.INT4),
}

_MOST_ROWS = 8
"""Of a run. More save next to nothing; memory and the first row's patience they cost."""

_FULL_RUN = 2e9
"""Multiplications that keep a run busy. Wall ms a row, INT8, two AVX512-VNNI cores with a run of one thread on each:

    multiplications a row                              1 row     2     4     8 rows a run
    0.02e9   text, the demo model's                     0.72  0.44  0.37  0.33
    0.2e9    vision, the demo model's                   2.69  2.33  1.86  1.71
    0.4e9    text, width 192, 64 tokens                 4.74  3.56  3.32  3.38
    1.3e9    vision, width 192, 224 pixels              14.4  15.3  15.2  15.9
    1.4e9    text, width 384, 64 tokens                 10.8  10.4  10.5   9.7
    6e9      text, a base model's, 64 tokens            26.0  23.1  24.7
    6e9      vision, width 384, 256 pixels              36.8  38.4  39.5  42.5
    24e9     vision, a base model's, 256 pixels          124   133   155

A small row's run is mostly the start of its operators, which rows can share; two large rows do not fit the caches.
"""

_FULL_TOKENS = 128
"""Tokens or patches for which a run reads its weights. With 64 of them, as many as a base model's text has, it waits
for memory: in the table above a second text helps where a second image of as many multiplications does not.
"""

_WORTH_A_THREAD = 0.5e9
"""Multiplications of a lone row for each of its threads: of less work, they wait for each other longer than they work.
ms of the same rows, runs of two threads and of one in turns:

    multiplications a row                           2 threads  1 thread
    0.02e9   text, the demo model's                      1.21      0.93
    0.2e9    vision, the demo model's                    4.14      3.69
    0.4e9    text, width 192, 64 tokens                  6.13      6.33
    1.3e9    vision, width 192, 224 pixels               18.2      19.8
    1.4e9    text, width 384, 64 tokens                  11.8      15.2
    6e9      text, a base model's, 64 tokens             39.8      48.0
    6e9      vision, width 384, 256 pixels               52.3      65.7
    24e9     vision, a base model's, 256 pixels           117       199
"""

_MOST_RUNS_AT_ONCE = 4
"""Each holds buffers of its own: 12 MB for an image of a base model."""


@dataclass(frozen=True, kw_only=True)
class BatchLimit:
    """How much may share one run of a tower. None: no limit."""

    rows: int | None = None
    cost: int | None = None
    """Tokens or patches; a single row may have more."""

    def allows(self, rows: int, cost: int) -> bool:
        """Whether `rows` rows of `cost` tokens or patches together may share a run."""
        within_rows = self.rows is None or rows <= self.rows
        return rows <= 1 or (within_rows and (self.cost is None or cost <= self.cost))


ONE_ROW = BatchLimit(rows=1)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the operator asked for."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `openvino`, `openvino:GPU`: asked for by name, had or an error."""
    precision: Precision | None = None
    """None: the fastest that is right on the provider."""
    workers: int = 1
    """Processes that share this machine."""
    intra_op_threads: int | None = None
    max_concurrent_batches: int | None = None
    """Runs of all towers that may be under way at once; None: as many as the cores are good for."""
    batch_size: int = 32
    """Most rows that may share a run; the plan allows fewer where more gain nothing."""

    def share(self, cpu: CpuBudget) -> int:
        """Intra-op threads that a worker may start."""
        return self.intra_op_threads or max(1, cpu.cores // self.workers)


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How a model directory is run on this machine. `reason` explains it in the start-up log and `/health`."""

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    precision: Precision
    intra_op_threads: int
    """Of a lone run; of `runs_at_once`, each has its share."""
    runs_at_once: int = 1
    """Of one tower, side by side."""
    batch_limits: Mapping[Tower, BatchLimit] = field(default_factory=dict)
    """What may share a run of a tower; a tower that is not named runs one row at a time. One row makes a float graph's
    bits independent of the batch; where more are allowed, the self-test has found them so."""
    allow_spinning: bool = False
    """Idle threads burn a core each when they spin; an edge box has better use for it."""
    reason: str
    refused: tuple[str, ...] = ()
    """What was tried before it, and why that is not used here."""

    def batch_limit(self, tower: Tower) -> BatchLimit:
        """What may share a run of this tower."""
        return self.batch_limits.get(tower, ONE_ROW)

    def rows(self, tower: Tower) -> int | None:
        """Most rows in a run of this tower; None: any number."""
        return self.batch_limit(tower).rows

    def with_rows(self, rows: int | None) -> ExecutionPlan:
        """With at most so many rows in a run of any tower, whatever they cost."""
        return replace(self, batch_limits={tower: BatchLimit(rows=rows) for tower in Tower})

    @property
    def shared_threads(self) -> int:
        """Of each run where as many as planned are under way."""
        return -(-self.intra_op_threads // self.runs_at_once)

    @property
    def place(self) -> str:
        return f"{self.precision} on {self.provider}"


def plan(available: Collection[str], cpu: CpuBudget, manifest: Manifest, wishes: Wishes) -> ExecutionPlan:
    """The best of `plans`, with nothing measured."""
    return plans(available, cpu, manifest, wishes)[0]


def plans(
    available: Collection[str],
    cpu: CpuBudget,
    manifest: Manifest,
    wishes: Wishes,
    measured: ExecutionPlan | None = None,
) -> tuple[ExecutionPlan, ...]:
    """Decide: best first, then what to try when that one cannot be loaded or fails its self-test. Never empty.

    What was asked for by name is in every plan; what was left to `auto` may differ between them. `available`:
    onnxruntime's provider names in this environment. `measured`: the fastest right plan on this machine; where it fits
    the wishes it goes first, on no more threads than there are for it.

    Raises ProviderUnavailable or ArtifactMissing when what was asked for by name cannot be had.
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
            **runs,
            reason=f"{target.why}; {one} {'as asked' if precision else rank}; {_in_words(runs, threads)}: {place}",
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


def _in_words(runs: Mapping[str, Any], threads: int) -> str:
    alone = runs["intra_op_threads"]
    return f"{threads} threads" if alone == threads else f"{threads} threads, {alone} for a lone run"


def _runs_at_once(threads: int, most: int) -> int:
    """So many that each has a thread or more, and all of them together every core."""
    share = -(-threads // min(most, _MOST_RUNS_AT_ONCE))
    return -(-threads // share)


@dataclass(frozen=True)
class _Target:
    provider: str
    options: Mapping[str, str]
    why: str


def _target(one: ExecutionPlan) -> tuple[str, Mapping[str, str], Precision]:
    """What the operator can ask for by name."""
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
            f"device {device!r}: onnxruntime here offers {have} only; "
            f"install siglip-edge[{name}] in an environment of its own"
        )
    options = {CUDA: {"device_id": detail or "0"}, OPENVINO: {"device_type": detail or "CPU"}}.get(provider, {})
    return [_Target(provider, options, f"{device} as asked")]


def _targets_there(available: Collection[str], cpu: CpuBudget) -> list[_Target]:
    """CUDA goes first, and the CPU, which is always there, before OpenVINO or after it.

    Of the same INT8 towers OpenVINO takes a fifth less CPU time with VNNI, and twice as much without (README).
    """
    cuda = _Target(CUDA, {"device_id": "0"}, "CUDA is here")
    openvino = _Target(OPENVINO, {"device_type": "CPU"}, "OpenVINO is here")
    if INT8_DOT_PRODUCTS.intersection(cpu.isa):
        order = [cuda, openvino, _Target(CPU, {}, "CPU")]
    else:
        order = [cuda, _Target(CPU, {}, "CPU, faster than OpenVINO without VNNI"), openvino]
    there = [target for target in order if target.provider in {CPU, *available}]
    return there if len(there) > 1 else [_Target(CPU, {}, "no CUDA or OpenVINO in this environment; CPU")]


def _runs(provider: str, precision: Precision, threads: int, manifest: Manifest, wishes: Wishes) -> dict[str, Any]:
    """How many runs share the threads, how many threads a lone one has, and how many rows share a run.

    More than one row only where its bits do not depend on the others, which the self-test asks again: INT8 on the CPU,
    and OpenVINO, where eight save two fifths of a small model's CPU time, a twentieth of a base model's.
    """
    towers = manifest.tower_names
    if provider == CUDA:
        limit = BatchLimit(rows=wishes.batch_size)
        return {"intra_op_threads": threads, "batch_limits": dict.fromkeys(towers, limit)}
    if provider == OPENVINO:
        limit = BatchLimit(rows=min(wishes.batch_size, _MOST_ROWS))
        return {"intra_op_threads": threads, "batch_limits": dict.fromkeys(towers, limit)}
    runs = _runs_at_once(threads, wishes.max_concurrent_batches or threads)
    if precision is not Precision.INT8:
        return {"intra_op_threads": threads, "runs_at_once": runs, "batch_limits": dict.fromkeys(towers, ONE_ROW)}
    row = max(_weights(manifest, tower) * _longest(manifest, tower) for tower in towers)
    return {
        # Where one run is all there is, its rows are what fills the cores.
        "intra_op_threads": min(threads, math.ceil(row / _WORTH_A_THREAD)) if runs > 1 else threads,
        "runs_at_once": runs,
        "batch_limits": {tower: _batch_limit(manifest, tower, wishes) for tower in towers},
    }


def _batch_limit(manifest: Manifest, tower: Tower, wishes: Wishes) -> BatchLimit:
    """Tokens or patches that keep a run busy, and as many of the tower's shortest rows as have them."""
    cost = max(int(_FULL_RUN // _weights(manifest, tower)), _FULL_TOKENS)
    rows = min(wishes.batch_size, _MOST_ROWS, cost // _shortest(manifest, tower))
    return BatchLimit(rows=max(1, rows), cost=cost)


def _weights(manifest: Manifest, tower: Tower) -> int:
    """Multiplications per token or patch, nearly: an INT8 weight is a byte of the graph, and is used once for each."""
    artifact = manifest.artifact(tower, Precision.INT8)
    return sum(record.size for record in (artifact.graph, *artifact.external_data))


def _longest(manifest: Manifest, tower: Tower) -> int:
    """Tokens or patches of the longest row."""
    return manifest.vision.geometry.most_patches if tower is Tower.VISION else manifest.text.length


def _shortest(manifest: Manifest, tower: Tower) -> int:
    """Tokens or patches of the shortest row."""
    return manifest.vision.geometry.fewest_patches if tower is Tower.VISION else manifest.text.fewest_tokens


def _ranked(provider: str, manifest: Manifest) -> list[tuple[Precision, str]]:
    """The manifest's precisions in this provider's order, each with its rank in words."""
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
