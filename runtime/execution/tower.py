"""A tower that is loaded when a run needs it, from a packed graph when possible."""

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
from siglip_edge.runtime.execution.packed_graph import PackingFailed, packed_graph
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
    """A session of the artifact's packed graph, or of its original graph.

    The packed graph needs a `cache` and the CPU provider; when packing fails, the original graph is loaded and the log
    says why. Raises ArtifactCorrupt or ProviderUnavailable.
    """
    if cache is not None and plan.provider == CPU:
        try:
            return GraphSession(packed_graph(directory, artifact, plan, cache, checksums), plan, packed_options(plan))
        except (PackingFailed, ArtifactCorrupt) as reason:
            logger.warning("%s is loaded unpacked, in more memory: %s", artifact.graph.path, reason)
    for record in (artifact.graph, *artifact.external_data):
        checksums.verify(directory, record)
    return GraphSession(directory / artifact.graph.path, plan)


def open_sessions(
    directory: Path, artifact: Artifact, plan: ExecutionPlan, cache: Path | None, checksums: ChecksumCache
) -> SessionPair:
    """The sessions for `plan.runs_at_once` runs side by side. Raises like `open_session`."""

    def open_with(threads: int) -> GraphSession:
        return open_session(directory, artifact, replace(plan, intra_op_threads=threads), cache, checksums)

    return SessionPair(open_with, threads=plan.intra_op_threads, runs_at_once=plan.runs_at_once)


class TowerOnDemand:
    """Runs batches. The first run loads the sessions; after `unload`, the next run loads them again."""

    def __init__(self, load: Callable[[], SessionPair]) -> None:
        """`load` opens the sessions; it may raise like `open_session`."""
        self.test: Callable[[], object] = lambda: None
        """Called after each load, before any other run. When it raises, the load raises the same and keeps nothing."""
        self._load = load
        self._sessions: SessionPair | None = None
        self._has_rested = False
        """Whether `rest` was called since the last load."""
        self._loading = threading.RLock()  # reentrant, because the test runs rows through this tower

    @property
    def is_loaded(self) -> bool:
        return self._sessions is not None

    def load(self) -> SessionPair:
        """Load the sessions unless they are loaded; other threads wait meanwhile. Raises like `open_session`."""
        with self._loading:
            if self._sessions is None:
                self._load_and_test()
            assert self._sessions is not None
            return self._sessions

    def rest(self) -> None:
        """Return the buffers that are kept between runs to the system.

        The first call after a load also unmaps code that only loading needed, and takes about 30 ms instead of 1.
        A run under way keeps its buffers.
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
        """Return the memory to the system. -> whether the tower was loaded. A run under way keeps it until it ends."""
        with self._loading:
            was_loaded, self._sessions = self.is_loaded, None
        if was_loaded:
            give_back()
        return was_loaded

    def run(self, batch: Arrays, *, crowded: bool = False) -> Floats:
        """One batch -> pooled outputs, (n, d) float32. `crowded`: the planned number of runs is under way."""
        return self.load().run(batch, crowded=crowded)

    def _load_and_test(self) -> None:
        self._sessions, self._has_rested = self._load(), False
        try:
            self.test()
        except BaseException:
            self._sessions = None
            raise
