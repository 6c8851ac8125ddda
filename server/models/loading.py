"""A served model directory: planned at once, opened in the background or when first asked for."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.checks.tuning import tuned_plans
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.open_model import load_first_right
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import served_towers, wishes


@dataclass
class Opening:
    """One directory on its way into memory."""

    name: str
    directory: Path
    manifest: Manifest
    candidates: tuple[ExecutionPlan, ...]
    """What will be tried, best first."""
    settings: Settings
    since: float = field(default_factory=time.monotonic, init=False)
    """When it was planned, on time.monotonic()'s clock."""
    _begun: Future[EmbeddingModel] | None = field(default=None, init=False)

    def begin(self) -> None:
        """Open in a thread, the text tower first. onnxruntime loads without the interpreter's lock: imports go on."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="open")
        self._begun = pool.submit(self._open, text_first=True)
        pool.shutdown(wait=False)

    def model(self) -> EmbeddingModel:
        """The model, tested on this machine; waits where it was begun, and then one tower may still be on its way
        (`EmbeddingModel.loading`). Raises ModelError or ProviderUnavailable.
        """
        return self._begun.result() if self._begun else self._open()

    def _open(self, *, text_first: bool = False) -> EmbeddingModel:
        return load_first_right(
            self.directory,
            self.candidates,
            towers=served_towers(self.settings),
            cache=self.settings.model_cache,
            at_first_use=self.settings.load_towers == "first-use",
            text_first=text_first,
        )


def plan_openings(settings: Settings, cpu: CpuBudget) -> list[Opening]:
    """Every served directory, the default first. Raises ModelError or ProviderUnavailable."""
    return [_planned(name, directory, settings, cpu) for name, directory in settings.named_models.items()]


def _planned(name: str, directory: Path, settings: Settings, cpu: CpuBudget) -> Opening:
    manifest = Manifest.load(directory)
    candidates = tuned_plans(
        settings.model_cache,
        available_providers(),
        cpu,
        manifest,
        wishes(settings, cpu),
        towers=served_towers(settings),
    )
    return Opening(name, directory, manifest, candidates, settings)
