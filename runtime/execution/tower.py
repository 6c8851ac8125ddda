"""A tower on demand: loaded when it is needed, from packed and mapped weights where those can be had."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Artifact
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.execution.packed_graph import PreparationFailed, prepare
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
from siglip_edge.runtime.execution.session import GraphSession, packed_options
from siglip_edge.runtime.execution.session_pair import SessionPair
from siglip_edge.runtime.machine.memory import forget_code, give_back, trim_heap
from siglip_edge.runtime.rows import Arrays

Floats = NDArray[np.float32]

logger = logging.getLogger("siglip_edge")


def open_session(
    directory: Path, artifact: Artifact, plan: ExecutionPlan, cache: Path | None, checksums: ChecksumCache
) -> GraphSession:
    """The artifact's graph: packed when there is a `cache` and the CPU runs it; else, or if that fails, as it is.

    Raises ArtifactCorrupt or ProviderUnavailable.
    """
    if cache is not None and plan.provider == CPU:
        try:
            return GraphSession(prepare(directory, artifact, plan, cache, checksums), plan, packed_options(plan))
        except (PreparationFailed, ArtifactCorrupt) as reason:
            logger.warning("%s is loaded unpacked, in more memory: %s", artifact.graph.path, reason)
    for record in (artifact.graph, *artifact.external_data):
        checksums.verify(directory, record)
    return GraphSession(directory / artifact.graph.path, plan)


def open_sessions(
    directory: Path, artifact: Artifact, plan: ExecutionPlan, cache: Path | None, checksums: ChecksumCache
) -> SessionPair:
    """As `open_session`, for as many runs at once as planned."""

    def open_with(threads: int) -> GraphSession:
        return open_session(directory, artifact, replace(plan, intra_op_threads=threads), cache, checksums)

    return SessionPair(open_with, threads=plan.intra_op_threads, runs_at_once=plan.runs_at_once)


class TowerOnDemand:
    """Runs batches through sessions that are loaded by the first run and, after `unload`, by the next one again."""

    def __init__(self, load: Callable[[], SessionPair]) -> None:
        self.test: Callable[[], object] = lambda: None
        """Called after each load, before any other run; what it raises the load raises, and nothing stays loaded."""
        self._load = load
        self._sessions: SessionPair | None = None
        self._has_rested = False
        """Since it was loaded."""
        self._loading = threading.RLock()  # the test runs rows through this tower

    @property
    def is_loaded(self) -> bool:
        return self._sessions is not None

    def load(self) -> SessionPair:
        """Load unless loaded; threads that come meanwhile wait. Raises like `open_session`."""
        with self._loading:
            if self._sessions is None:
                self._load_and_test()
            assert self._sessions is not None
            return self._sessions

    def rest(self) -> None:
        """Give back what runs keep for the next one, and the first time what only loading needed.

        Runs that are under way keep theirs. It takes 1 ms, the first time 30.
        """
        sessions = self._sessions
        if sessions is None:
            return
        sessions.shrink()
        trim_heap()
        if not self._has_rested:
            self._has_rested = True
            forget_code()

    def unload(self) -> bool:
        """Give the memory back to the system. -> whether there was any. A run under way keeps it until it ends."""
        with self._loading:
            was_loaded, self._sessions = self.is_loaded, None
        if was_loaded:
            give_back()
        return was_loaded

    def run(self, batch: Arrays, *, crowded: bool = False) -> Floats:
        """One batch -> pooled outputs, (n, d) float32. `crowded`: as many runs as planned are under way."""
        return self.load().run(batch, crowded=crowded)

    def _load_and_test(self) -> None:
        self._sessions, self._has_rested = self._load(), False
        try:
            self.test()
        except BaseException:
            self._sessions = None
            raise
