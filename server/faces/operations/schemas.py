"""Answers of the health routes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Hardware(Struct, kw_only=True):
    cores: Annotated[int, Meta(description="Cores this server may use: affinity, cpuset and quota counted.")]
    logical_cpus: int
    quota: float | None
    memory_bytes: int
    resident_bytes: Annotated[int, Meta(description="Memory of this worker.")]
    isa: list[str]


class LaneHealth(Struct, kw_only=True):
    tower: str
    queue_size: Annotated[int, Meta(description="Rows waiting.")]
    busy: bool
    batch_size: Annotated[int, Meta(description="Most rows in one run.")]
    rows_per_second: Annotated[float | None, Meta(description="Measured; null before the first run.")]


class ModelHealth(Struct, kw_only=True):
    id: str
    status: str
    space_id: str
    provider: str
    precision: str
    intra_op_threads: int
    runs_at_once: int
    plan: Annotated[str, Meta(description="The reason of the execution plan.")]
    refused: Annotated[list[str], Meta(description="Preferable plans that are not used, each with its reason.")]
    lanes: list[LaneHealth]


class HealthAnswer(Struct, kw_only=True):
    """The state of one worker: each process has its own queues."""

    status: str
    uptime_s: float
    models: list[ModelHealth]
    hardware: Hardware
    workers: Annotated[int, Meta(description="Processes.")]
    queue_size: Annotated[int, Meta(description="Rows waiting in all lanes.")]
    max_queue_size: Annotated[int, Meta(description="Rows that may wait in one lane.")]
    active_workers: Annotated[int, Meta(description="Batch threads at work now.")]
    total_workers: Annotated[int, Meta(description="Batch threads: one per tower of each loaded model.")]
    batch_size: int
    batch_wait_time_ms: float
    cpu_count: int


class ProbeAnswer(Struct):
    status: str
