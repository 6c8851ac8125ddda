"""Decisions of the execution plan for machines that are not here."""

from __future__ import annotations

import dataclasses

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.execution.plan import CPU, CUDA, Wishes, plan
from siglip_edge.runtime.machine.cpu import CpuBudget
from tests.conformance.servers import MODEL, Servers

_BOX = CpuBudget(logical=16, physical=8, usable=16, quota=None, memory=16 << 30, isa=("avx2", "avx_vnni"))


def gpu_first(_: Servers) -> None:
    """Where onnxruntime offers CUDA, CUDA computes, in FP16."""
    made = plan([CPU, CUDA], _BOX, Manifest.load(MODEL), Wishes())
    assert made.place == f"fp16 on {CUDA}"


def larger_batches_on_a_gpu(_: Servers) -> None:
    manifest = Manifest.load(MODEL)
    of_gpu, of_cpu = (plan([one], _BOX, manifest, Wishes(device=name)) for one, name in ((CUDA, "cuda"), (CPU, "cpu")))
    assert (of_gpu.rows(Tower.VISION) or 0) > (of_cpu.rows(Tower.VISION) or 0)


def follows_the_cores(_: Servers) -> None:
    """More cores, more runs side by side, up to a limit of memory."""
    runs = [
        plan(
            [CPU],
            dataclasses.replace(_BOX, physical=cores, logical=cores, usable=cores),
            Manifest.load(MODEL),
            Wishes(),
        )
        for cores in (1, 2, 4, 8, 16)
    ]
    counts = [one.runs_at_once for one in runs]
    assert counts == sorted(counts)
    assert counts[0] == 1 < counts[-1] <= 8
