"""The served models by name: each its own space, lanes and cache. The first one is the default."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable, SiglipEdgeError
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.server.embedding.embedder import Embedder, check_space
from siglip_edge.server.http.errors import ModelNotFound
from siglip_edge.server.http.request_context import RequestContext

logger = logging.getLogger("siglip_edge")

_STALL_FACTOR = 20.0
"""A run that takes this many times the measured time a row, and longer than `_STALL_S`, counts as stuck."""
_STALL_S = 30.0

LOADING_RETRY_S = 2.0


@dataclass
class ServedModel:
    """A name, its manifest, and, once loaded, what embeds for it."""

    name: str
    manifest: Manifest
    planned: ExecutionPlan
    """What will be tried first."""
    open: Callable[[], Embedder]
    """Load, warm up and self-test. Raises ModelError or ProviderUnavailable."""
    embedder: Embedder | None = None
    """None until loaded."""
    since: float = field(default_factory=time.monotonic)
    """When work on it began."""
    failure: str | None = None
    loading: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> Embedder:
        """Load once, in the calling thread; others wait for it."""
        with self.loading:
            if self.embedder is None:
                self.embedder = self.open()
            return self.embedder

    @property
    def plan(self) -> ExecutionPlan:
        """What is in force; until something is, what will be tried first."""
        return self.embedder.model.plan if self.embedder else self.planned

    @property
    def status(self) -> str:
        """`ready`, or why not."""
        if self.embedder is None and not self.failure and not self.loading.locked():
            return "not loaded"
        try:
            self.check_ready()
        except NotReady as error:
            return str(error)
        return "ready"

    def check_ready(self) -> None:
        """As `check_answers`, and raise NotReady until every tower is there that is loaded at the start."""
        self.check_answers()
        loading = self.embedder.model.loading if self.embedder else None
        if loading is not None and not loading.done():
            raise NotReady(f"a tower of model {self.name} is loading", retry_after_s=LOADING_RETRY_S)
        if loading is not None and loading.exception():
            raise NotReady(f"a tower of model {self.name} could not be loaded; the server's log says why")

    def check_answers(self) -> None:
        """Raise NotReady while loading, after a failed load, or when work is there and none gets finished.

        A tower that is still on its way counts as there: its requests wait for it.
        """
        if self.failure:
            raise NotReady(f"model {self.name} could not be loaded: {self.failure}", retry_after_s=LOADING_RETRY_S)
        if self.embedder is None:
            raise NotReady(f"model {self.name} is loading", retry_after_s=LOADING_RETRY_S)
        for tower, lane in self.embedder.lanes.items():
            if not lane.is_alive or lane.stalled_s > max(_STALL_S, _STALL_FACTOR * lane.row_s):
                raise NotReady(f"the {tower} tower finished no batch for {lane.stalled_s:.0f} s, though work waits")


class Models:
    """Lookup by name. The default loads in the background from `start`; the others when first asked for."""

    def __init__(
        self,
        served: list[ServedModel],
        *,
        on_failure: Callable[[str], None] = lambda message: None,  # noqa: ARG005
        on_late_failure: Callable[[], None] = lambda: None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._served = {model.name: model for model in served}
        self._default = served[0]
        self._on_failure = on_failure
        self._on_late_failure = on_late_failure
        self._is_stopping = is_stopping

    @property
    def default(self) -> ServedModel:
        return self._default

    def all(self) -> list[ServedModel]:
        return list(self._served.values())

    def find(self, name: str | None) -> ServedModel:
        """The model of that name; none given: the default. Raises ModelNotFound."""
        model = self._served.get(name) if name else self._default
        if model is None:
            message = f"no model {name[:100]!r} here; served: {', '.join(self._served)}" if name else ""
            raise ModelNotFound(message, param="model")
        return model

    def embedder(self, name: str | None, context: RequestContext, *expected_spaces: str | None) -> Embedder:
        """What embeds for a request. Raises ModelNotFound, SpaceMismatch or NotReady."""
        model = self.find(name)
        context.space = model.manifest.space_id
        check_space(model.manifest, *expected_spaces)
        if model is self._default or model.embedder is not None:
            model.check_answers()
        return model.embedder or self._load_lazily(model)

    def check_ready(self) -> None:
        """Raise NotReady while the default model is not ready or the server stops; what was admitted is answered."""
        if self._is_stopping():
            raise NotReady("the server is shutting down")
        self._default.check_ready()

    def backlog_s(self) -> float:
        """Estimated seconds until the longest queue has run."""
        embedders = [model.embedder for model in self.all() if model.embedder]
        return max((lane.backlog_s for embedder in embedders for lane in embedder.lanes.values()), default=0.0)

    def start(self, wait_s: float) -> None:
        """Load the default model in a thread, and wait up to `wait_s` until it answers.

        `on_failure` hears the one sentence when it cannot be loaded, `on_late_failure` is called when a tower cannot
        that was left for later.
        """
        answers = threading.Event()
        threading.Thread(target=self._load_default, args=(answers,), name="load", daemon=True).start()
        answers.wait(wait_s)

    def close(self) -> None:
        for model in self.all():
            if model.embedder is not None:
                for lane in model.embedder.lanes.values():
                    lane.close()

    def _load_default(self, answers: threading.Event) -> None:
        model = self._default
        try:
            embedder = model.load()
        except Exception as error:  # noqa: BLE001 - whatever it is, probes tell it
            model.failure = _logged(error)
            self._on_failure(model.failure)
            return
        finally:
            answers.set()
        try:
            embedder.model.loading.result()
        except Exception as error:  # noqa: BLE001 - whatever it is, probes tell it
            _logged(error)
            self._on_late_failure()
            return
        seconds, plan = time.monotonic() - model.since, model.plan
        logger.info("model %s ready in %.2f s: %s: %s", model.name, seconds, plan.place, plan.reason)

    @staticmethod
    def _load_lazily(model: ServedModel) -> Embedder:
        try:
            return model.load()
        except (ModelError, ProviderUnavailable) as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
            raise NotReady(f"model {model.name} could not be loaded; the server's log says why") from None


def _logged(error: Exception) -> str:
    """-> its sentence. With a traceback where it is none of ours."""
    message = str(error) or type(error).__name__
    logger.critical("%s", message, exc_info=None if isinstance(error, SiglipEdgeError) else error)
    return message
