"""The execution plans to time: the preferred plans, and variations of each with other threads or rows per run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan

ROWS = (1, 4, 8)
"""Rows per run to try where a row's bits do not depend on its batch."""


def candidates(
    preferred: Sequence[ExecutionPlan], *, most_threads: int, most_rows: int = max(ROWS)
) -> list[ExecutionPlan]:
    """`preferred` (from `runtime.execution.plan.plans`) and variations of each; the default plan stays first.

    `most_threads`: threads that a worker may start. `most_rows`: most rows that the server puts into a run.
    """
    return _distinct([
        *preferred,
        *(other for plan in preferred for other in _other_threads(plan, most_threads)),
        *(other for plan in preferred for other in _other_rows(plan, most_rows)),
    ])  # fmt: skip


def _other_threads(plan: ExecutionPlan, most: int) -> Iterator[ExecutionPlan]:
    if plan.provider == CUDA:
        return
    for threads in (most, most // 2, 1):
        yield replace(plan, intra_op_threads=max(1, threads))
    one_by_one = replace(plan, intra_op_threads=most, runs_at_once=1)
    yield one_by_one
    if plan.provider == CPU:
        yield replace(one_by_one, allow_spinning=most > 1)


def _other_rows(plan: ExecutionPlan, most: int) -> Iterator[ExecutionPlan]:
    has_equal_bits = plan.provider == OPENVINO or (plan.provider == CPU and plan.precision is Precision.INT8)
    if has_equal_bits:  # the bits are tested if this plan wins
        yield from (plan.with_rows(rows) for rows in ROWS if rows <= most)


def _distinct(plans: Iterable[ExecutionPlan]) -> list[ExecutionPlan]:
    """Without plans that differ only in the threads of a lone run, because runs are timed side by side."""
    first: dict[str, ExecutionPlan] = {}
    for plan in plans:
        first.setdefault(str(replace(plan, intra_op_threads=plan.shared_threads)), plan)
    return list(first.values())
