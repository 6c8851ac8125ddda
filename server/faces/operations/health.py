"""`GET /health`, `/health/live`, `/health/ready`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import falcon

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import NotReady
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.machine.cpu import CpuBudget, resident_bytes
from siglip_edge.runtime.machine.gpu import read_gpu
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import concurrent_batches, worker_count
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.operations.schemas import (
    BatchProcessing,
    Hardware,
    HealthAnswer,
    LaneHealth,
    ModelHealth,
    PerformanceEstimates,
    ProbeAnswer,
)
from siglip_edge.server.http import errors, json
from siglip_edge.server.http.worker_facts import WAITING
from siglip_edge.server.models.registry import Models
from siglip_edge.server.models.served_model import ServedModel

HEALTHY = "healthy"
"""The word that clients of siglip2-api look for."""


class Health:
    def __init__(self, models: Models, settings: Settings, cpu: CpuBudget) -> None:
        self._models = models
        self._settings = settings
        self._cpu = cpu
        self._started = time.monotonic()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The facts, whether the server is ready or not. Not ready: 503, with the error beside them."""
        answer = self._answer(req.env.get(WAITING, 0))
        try:
            self._models.check_ready()
        except NotReady as error:
            problem = errors.problem_of(error)
            errors.apply(resp, problem)
            answer.status, answer.error = problem.message, render_error(problem).error
        resp.data = json.render(answer)

    def on_get_live(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        resp.data = json.render(ProbeAnswer(status="alive"))

    def on_get_ready(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        self._models.check_ready()
        resp.data = json.render(ProbeAnswer(status="ready"))

    def _answer(self, waiting: int) -> HealthAnswer:
        """`waiting`: number of requests that wait for a thread."""
        default = self._models.default
        models = [_model_health(model) for model in self._models.all()]
        batches = self._batch_processing([lane for model in models for lane in model.lanes], waiting)
        return HealthAnswer(
            status=HEALTHY,
            model_loaded=default.embedder is not None,
            device=default.plan.device,
            uptime_s=round(time.monotonic() - self._started, 1),
            models=models,
            hardware=_hardware(self._cpu, default.plan),
            batch_processing=batches,
            performance_estimates=_estimates(models[0]),
            queue_size=batches.queue_size,
            max_queue_size=batches.max_queue_size,
            workers=worker_count(self._settings, self._cpu),
            active_workers=batches.active_workers,
            total_workers=batches.total_workers,
            batch_size=batches.batch_size,
            batch_wait_time_ms=batches.batch_wait_time_ms,
            cpu_count=batches.cpu_count,
        )

    def _batch_processing(self, lanes: Sequence[LaneHealth], waiting: int) -> BatchProcessing:
        batch_size = max((lane.batch_size for lane in lanes), default=self._settings.batch_size)
        return BatchProcessing(
            enabled=self._settings.batch_size > 1,
            batch_size=batch_size,
            batch_wait_time_ms=self._settings.batch_wait_time_ms,
            max_concurrent_batches=max(concurrent_batches(self._settings, model.plan) for model in self._models.all()),
            auto_scaling=self._settings.auto_scale_workers and self._settings.max_concurrent_batches is None,
            cpu_count=self._cpu.cores,
            queue_size=sum(lane.queue_size for lane in lanes) + waiting,
            max_queue_size=self._settings.max_queue_size,
            active_workers=sum(lane.busy for lane in lanes),
            total_workers=len(lanes),
        )


def _hardware(cpu: CpuBudget, plan: ExecutionPlan) -> Hardware:
    gpu = read_gpu(int(plan.provider_options.get("device_id", "0"))) if plan.device_type == "cuda" else None
    return Hardware(
        cores=cpu.cores,
        logical_cpus=cpu.logical,
        quota=cpu.quota,
        memory_bytes=cpu.memory,
        resident_bytes=resident_bytes(),
        isa=list(cpu.isa),
        cpu_cores=cpu.cores,
        has_gpu=plan.device_type in {"cuda", "gpu"},
        gpu_name=gpu.name if gpu else None,
        gpu_memory_gb=round(gpu.memory / 2**30, 1) if gpu else None,
        device_type=plan.device_type,
    )


def _estimates(model: ModelHealth) -> PerformanceEstimates:
    """Never a formula: what the lane of the vision tower measured."""
    vision = next((lane for lane in model.lanes if lane.tower == Tower.VISION), None)
    if model.lanes and vision is None:
        return PerformanceEstimates(images_per_second=None, note="the default model embeds texts only")
    if vision is None or vision.rows_per_second is None:
        return PerformanceEstimates(images_per_second=None, note="no image has run yet; the first one is measured")
    return PerformanceEstimates(
        images_per_second=f"{vision.rows_per_second:.1f}",
        note=f"measured in the last runs of the vision tower, without decoding: {model.precision} on {model.provider}",
    )


def _model_health(model: ServedModel) -> ModelHealth:
    plan = model.plan
    return ModelHealth(
        id=model.name,
        status=model.status,
        space_id=model.manifest.space_id,
        provider=plan.provider,
        precision=plan.precision,
        intra_op_threads=plan.intra_op_threads,
        runs_at_once=plan.runs_at_once,
        plan=plan.reason,
        refused=list(plan.refused),
        lanes=_lanes(model),
    )


def _lanes(model: ServedModel) -> list[LaneHealth]:
    lanes = model.embedder.lanes if model.embedder else {}
    return [
        LaneHealth(
            tower=tower,
            queue_size=lane.depth,
            busy=lane.is_busy,
            batch_size=lane.batch_size,
            rows_per_second=round(1 / lane.pace.between_s, 2) if lane.pace.between_s else None,
        )
        for tower, lane in lanes.items()
    ]
