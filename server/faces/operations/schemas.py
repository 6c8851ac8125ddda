"""Answers of the health routes."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from siglip_edge.server.faces.openai.schemas import ErrorBody


class Hardware(Struct, kw_only=True):
    cores: Annotated[int, Meta(description="Cores this server may use: affinity, cpuset and quota counted.")]
    logical_cpus: int
    quota: float | None
    memory_bytes: int
    resident_bytes: Annotated[int, Meta(description="Memory of this worker.")]
    isa: list[str]
    cpu_cores: Annotated[int, Meta(description="`cores`, as siglip2-api names it.")]
    has_gpu: Annotated[bool, Meta(description="The default model runs on a GPU.")]
    gpu_name: Annotated[str | None, Meta(description="As the CUDA driver names it; null without CUDA.")]
    gpu_memory_gb: Annotated[float | None, Meta(description="GiB.")]
    device_type: Annotated[
        str, Meta(description="Of the default model: `cpu`, `cuda`, or `gpu` and `npu` by OpenVINO.")
    ]


class BatchProcessing(Struct, kw_only=True):
    """The micro-batchers, by the names of siglip2-api."""

    enabled: Annotated[bool, Meta(description="Whether BATCH_SIZE lets rows share a run.")]
    batch_size: int
    batch_wait_time_ms: float
    max_concurrent_batches: Annotated[int, Meta(description="Runs at the same time, all models together.")]
    auto_scaling: Annotated[bool, Meta(description="Whether that number is chosen from the cores.")]
    cpu_count: int
    queue_size: Annotated[int, Meta(description="Rows waiting in all lanes, and requests waiting for a thread.")]
    max_queue_size: Annotated[int, Meta(description="Rows that may wait in one lane.")]
    active_workers: Annotated[int, Meta(description="Lanes at work now.")]
    total_workers: Annotated[int, Meta(description="Lanes: one per tower of each loaded model.")]


class PerformanceEstimates(Struct, kw_only=True):
    images_per_second: Annotated[
        str | None, Meta(description="A measured rate as text, as siglip2-api has it; null before the first image.")
    ]
    note: str


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


class HealthAnswer(Struct, kw_only=True, omit_defaults=True):
    """The state of one worker: each process has its own queues."""

    status: Annotated[str, Meta(description="`healthy`, or the reason why the server is not ready.")]
    model_loaded: Annotated[bool, Meta(description="Whether the default model answers.")]
    device: Annotated[str, Meta(description="Of the default model, as the setting DEVICE spells it.")]
    uptime_s: float
    models: list[ModelHealth]
    hardware: Hardware
    batch_processing: BatchProcessing
    performance_estimates: PerformanceEstimates
    workers: Annotated[int, Meta(description="Processes.")]
    queue_size: Annotated[int, Meta(description="Rows waiting in all lanes, and requests waiting for a thread.")]
    max_queue_size: Annotated[int, Meta(description="Rows that may wait in one lane.")]
    active_workers: Annotated[int, Meta(description="Batch threads at work now.")]
    total_workers: Annotated[int, Meta(description="Batch threads: one per tower of each loaded model.")]
    batch_size: int
    batch_wait_time_ms: float
    cpu_count: int
    error: Annotated[ErrorBody | UnsetType, Meta(description="Beside status 503.")] = UNSET


class ProbeAnswer(Struct):
    status: str


class RootAnswer(Struct, kw_only=True):
    name: str
    version: str
    model: Annotated[str, Meta(description="The default model.")]
    docs: Annotated[str, Meta(description="Path of the interactive documentation.")]
    openapi: str
    health: str
