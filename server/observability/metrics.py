"""Prometheus metrics, and the text of `/metrics` for all workers together.

Under gunicorn, every worker keeps its counts in files below PROMETHEUS_MULTIPROC_DIR, and the worker that answers
`/metrics` adds them up. `server/gunicorn/application.py` makes the directory before a worker imports the library.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.machine.cpu import resident_bytes
from siglip_edge.server.batching.batcher import BatchReport
from siglip_edge.server.embedding.preparation import Model
from siglip_edge.server.http.request_context import RequestContext

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_RESIDENT_EVERY_S = 1.0
"""Least number of seconds between two readings of a worker's memory: a reading takes longer than all other metrics of a
run together."""

_REJECTIONS = {  # status -> the label `reason`
    429: "overloaded",
    503: "not_ready",
    504: "deadline",
}


@dataclass(frozen=True, kw_only=True)
class LaneMetrics:
    """The series of one tower of one model."""

    seconds: Histogram
    rows: Histogram
    failed: Counter
    waiting: Gauge


@dataclass(frozen=True)
class ModelMetrics:
    """The series of one model."""

    lanes: Mapping[Tower, LaneMetrics]
    hits: Counter
    misses: Counter
    read_memory: Callable[[], object]
    """Called after each run."""

    def observe_batch(self, tower: Tower, report: BatchReport) -> None:
        lane = self.lanes[tower]
        lane.seconds.observe(report.seconds)
        lane.rows.observe(report.rows)
        lane.waiting.set(report.waiting)
        if report.failed:
            lane.failed.inc()
        self.read_memory()

    def count_lookup(self, hit: bool) -> None:  # noqa: FBT001 - the signature that the cache calls
        (self.hits if hit else self.misses).inc()


class Metrics:
    """The metrics of one process, in a registry of their own: nothing is global."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str, across: str = "livesum") -> Gauge:
            return Gauge(name, meaning, labels, registry=registry, multiprocess_mode=across)  # type: ignore[arg-type]

        def histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        # `cache` finds the child of some labels in C. The library would check the labels for every request and run.
        self._requests = cache(counter("http_requests_total", "Requests.", "face", "method", "route", "status").labels)
        self._request_s = cache(histogram("http_request_duration_seconds", "Request to answer.", "route").labels)
        self._stage_s = cache(
            histogram("embedding_stage_duration_seconds", "Time of a request in each stage.", "stage", "tower").labels
        )
        of_lane = ("model", "tower")
        self._batch_s = histogram("embedding_batch_duration_seconds", "A run of a tower.", *of_lane)
        self._batch_rows = histogram("embedding_batch_rows", "Rows per run.", *of_lane, buckets=_ROWS)
        self._failed = counter("embedding_failed_batches_total", "Runs that raised.", *of_lane)
        self._queue = gauge("embedding_queue_rows", "Rows waiting after the last run.", *of_lane)
        self._rejected = counter("embedding_rejections_total", "Requests turned away.", "reason")
        self._hits = counter(
            "embedding_cache_hits_total",
            "Inputs answered from the cache, or by another request that computes the same input.",
            "model",
        )
        self._misses = counter("embedding_cache_misses_total", "Inputs computed.", "model")
        self._resident = gauge("worker_resident_bytes", "Memory of a worker.", across="liveall")
        self._workers = gauge("workers", "Workers alive.", across="livesum")
        self._info = gauge(
            *("embedding_model_info", "Always 1; the labels describe a served model."),
            *("model", "space_id", "precision", "provider", "threads"),
            across="livemax",
        )
        self._workers.set(1)
        self._resident_due = 0.0
        for reason in _REJECTIONS.values():
            self._rejected.labels(reason)

    def observe_request(self, method: str, route: str, status: int, context: RequestContext) -> None:
        self._requests(context.face, method, route, status).inc()
        self._request_s(route).observe(context.elapsed)
        for (stage, tower), seconds in context.timings.items():
            self._stage_s(stage, tower).observe(seconds)
        if status in _REJECTIONS:
            self._rejected.labels(_REJECTIONS[status]).inc()

    def of_model(self, name: str, model: Model, space_id: str) -> ModelMetrics:
        """The metrics of a loaded model. Each of its series begins now, at 0, so that a first event is an increase."""
        plan = model.plan
        labels = (name, space_id, plan.precision, plan.provider, plan.intra_op_threads)
        self._info.labels(*labels).set(1)
        lanes = {
            tower: LaneMetrics(
                seconds=self._batch_s.labels(name, tower),
                rows=self._batch_rows.labels(name, tower),
                failed=self._failed.labels(name, tower),
                waiting=self._queue.labels(name, tower),
            )
            for tower in model.towers
        }
        return ModelMetrics(lanes, self._hits.labels(name), self._misses.labels(name), self._read_memory)

    def _read_memory(self) -> None:
        if (now := time.monotonic()) >= self._resident_due:
            self._resident_due = now + _RESIDENT_EVERY_S
            self._resident.set(resident_bytes())

    def render(self) -> bytes:
        """-> the text of /metrics, all workers together."""
        self._resident.set(resident_bytes())
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        everybody.register(AllWorkers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
        return generate_latest(everybody)


class AllWorkers(Collector):
    """The library's collector, without the files that a starting worker has made and not filled: it fails on them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._directory.glob("*.db") if _is_filled(path)]
        return multiprocess.MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-any-return,no-untyped-call]


def _is_filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:  # a gauge of a worker that has just died
        return False
