"""Facts to decision: which execution provider, which precision, how many threads, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from runtime.cpu import CpuBudget
from runtime.errors import ArtifactMissing, ProviderUnavailable
from runtime.manifest import Manifest, Precision

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

_PROVIDER_OF_DEVICE = {"cpu": CPU, "cuda": CUDA, "openvino": OPENVINO}

_PREFERENCE: Mapping[str, tuple[Precision, ...]] = {
    # INT8 is what fits an edge CPU; FP16 graphs are computed in float32 there, twice the memory for no speed.
    CPU: (Precision.INT8, Precision.FP32, Precision.FP16),
    OPENVINO: (Precision.INT8, Precision.FP16, Precision.FP32),
    # QDQ nodes run one by one on CUDA, slower than FP16 on tensor cores.
    CUDA: (Precision.FP16, Precision.FP32, Precision.INT8),
}


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


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How a model directory is run on this machine. `reason` explains it in the start-up log and `/health`."""

    provider: str
    provider_options: Mapping[str, str] = field(default_factory=dict)
    precision: Precision
    intra_op_threads: int
    rows_per_run: int | None
    """At most so many rows in one `session.run`; None: whatever is queued. 1 makes a float graph's bits
    independent of the batch, and costs nothing on CPU, where batching gains nothing."""
    allow_spinning: bool = False
    """Idle threads burn a core each when they spin; an edge box has better use for it."""
    reason: str


def plan(available: Collection[str], cpu: CpuBudget, manifest: Manifest, wishes: Wishes) -> ExecutionPlan:
    """Decide. `available`: onnxruntime's provider names in this environment.

    Raises ProviderUnavailable or ArtifactMissing when what was asked for by name cannot be had.
    """
    provider, options, why = _provider(available, wishes.device)
    precision = wishes.precision or _precision(provider, manifest)
    if precision not in manifest.precisions():
        have = ", ".join(manifest.precisions())
        raise ArtifactMissing(
            f"{manifest.name}: no {precision} artifacts (it has {have}); export them or set PRECISION=auto"
        )
    threads = wishes.intra_op_threads or max(1, cpu.cores // wishes.workers)
    asked = "as asked" if wishes.precision else "preferred there"
    return ExecutionPlan(
        provider=provider,
        provider_options=options,
        precision=precision,
        intra_op_threads=threads,
        rows_per_run=1 if provider == CPU else None,
        reason=f"{why}; {precision} {asked}; {threads} intra-op threads: {cpu.describe()}, {wishes.workers} workers",
    )


def _provider(available: Collection[str], device: str) -> tuple[str, dict[str, str], str]:
    name, _, detail = device.partition(":")
    if name == "auto":
        if CUDA in available:
            return CUDA, {}, "CUDA is here"
        if OPENVINO in available:
            return OPENVINO, {"device_type": "CPU"}, "OpenVINO is here, no CUDA"
        return CPU, {}, "no CUDA or OpenVINO in this environment; CPU"
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
    return provider, options, f"{device} as asked"


def _precision(provider: str, manifest: Manifest) -> Precision:
    have = manifest.precisions()
    for precision in _PREFERENCE[provider]:
        if precision in have:
            return precision
    raise ArtifactMissing(f"{manifest.name}: no precision in which both towers are present; run the export again")
