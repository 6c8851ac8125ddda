"""`GET /health`, `/health/live`, `/health/ready`."""

from __future__ import annotations

import time

import falcon

from siglip_edge.runtime.machine.cpu import CpuBudget, resident_bytes
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import worker_count
from siglip_edge.server.faces.operations.schemas import Hardware, HealthAnswer, LaneHealth, ModelHealth, ProbeAnswer
from siglip_edge.server.http import json
from siglip_edge.server.models.registry import Models
from siglip_edge.server.models.served_model import ServedModel


class Health:
    def __init__(self, models: Models, settings: Settings, cpu: CpuBudget) -> None:
        self._models = models
        self._settings = settings
        self._cpu = cpu
        self._started = time.monotonic()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        resp.data = json.render(self._answer())

    def on_get_live(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        resp.data = json.render(ProbeAnswer(status="alive"))

    def on_get_ready(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002
        self._models.check_ready()
        resp.data = json.render(ProbeAnswer(status="ready"))

    def _answer(self) -> HealthAnswer:
        models = [_model_health(model) for model in self._models.all()]
        lanes = [lane for model in models for lane in model.lanes]
        return HealthAnswer(
            status=models[0].status,
            uptime_s=round(time.monotonic() - self._started, 1),
            models=models,
            hardware=_hardware(self._cpu),
            queue_size=sum(lane.queue_size for lane in lanes),
            max_queue_size=self._settings.max_queue_size,
            workers=worker_count(self._settings, self._cpu),
            active_workers=sum(lane.busy for lane in lanes),
            total_workers=len(lanes),
            batch_size=max((lane.batch_size for lane in lanes), default=self._settings.batch_size),
            batch_wait_time_ms=self._settings.batch_wait_time_ms,
            cpu_count=self._cpu.cores,
        )


def _hardware(cpu: CpuBudget) -> Hardware:
    return Hardware(
        cores=cpu.cores,
        logical_cpus=cpu.logical,
        quota=cpu.quota,
        memory_bytes=cpu.memory,
        resident_bytes=resident_bytes(),
        isa=list(cpu.isa),
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
            rows_per_second=round(1 / lane.pace_s, 2) if lane.pace_s else None,
        )
        for tower, lane in lanes.items()
    ]
