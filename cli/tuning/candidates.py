"""The execution plans to time: the preferred plans, and variations of each with other threads or rows per run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, BatchLimit, ExecutionPlan

ROWS = (1, 4, 8)
"""Rows per run to try where a row's bits do not depend on its batch."""


def candidates(
    preferred: Sequence[ExecutionPlan],
    *,
    most_threads: int,
    most_rows: int = max(ROWS),
    row_costs: Mapping[Tower, int] = MappingProxyType({}),
) -> list[ExecutionPlan]:
    """`preferred` (from `runtime.execution.plan.plans`) and variations of each; the default plan stays first.

    `most_threads`: threads that a worker may start. `most_rows`: most rows that the server puts into a run.
    `row_costs`: cost of a usual row of each tower whose rows differ in cost. Longer rows share a run up to the cost of
    the tried number of usual rows, because eight rows of the longest texts would take the memory of the machine.
    """
    return _distinct([
        *preferred,
        *(other for plan in preferred for other in _other_threads(plan, most_threads)),
        *(other for plan in preferred for other in _other_rows(plan, most_rows, row_costs)),
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


def _other_rows(plan: ExecutionPlan, most: int, row_costs: Mapping[Tower, int]) -> Iterator[ExecutionPlan]:
    has_equal_bits = plan.provider == OPENVINO or (plan.provider == CPU and plan.precision is Precision.INT8)
    own = {limit.rows for limit in plan.batch_limits.values()}
    if has_equal_bits:  # the bits are tested if this plan wins
        yield from (_with_rows(plan, rows, row_costs) for rows in ROWS if rows <= most and own != {rows})


def _with_rows(plan: ExecutionPlan, rows: int, row_costs: Mapping[Tower, int]) -> ExecutionPlan:
    """`rows` rows per run of each tower of the model."""
    costs = {tower: row_costs.get(tower) for tower in plan.batch_limits or Tower}
    limits = {tower: BatchLimit(rows=rows, cost=rows * cost if cost else None) for tower, cost in costs.items()}
    return replace(plan, batch_limits=limits)


def _distinct(plans: Iterable[ExecutionPlan]) -> list[ExecutionPlan]:
    """Without plans that differ only in the threads of a lone run, because runs are timed side by side."""
    first: dict[str, ExecutionPlan] = {}
    for plan in plans:
        first.setdefault(str(replace(plan, intra_op_threads=plan.shared_threads)), plan)
    return list(first.values())
