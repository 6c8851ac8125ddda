"""A served model and the states of its loading.

    PLANNED ──load──> LOADING ──opened──> ANSWERS ──every tower is loaded──> READY
       ^                 │                   │
       └──a lazy model───┴─fails─> FAILED   (a tower that fails later: `failure` says so, the others answer)

A lazy model is one that loads with its first request. If it fails, it goes back to PLANNED, and its next request tries
again. One condition guards the state; requests that need the model wait on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from siglip_edge.runtime.artifacts.manifest import Manifest, Patches, Tower
from siglip_edge.runtime.artifacts.space_id import templated
from siglip_edge.runtime.errors import NotReady, SiglipEdgeError
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.open_model import LoadTime, PlannedModel
from siglip_edge.server.config.listed_models import ListedModel, hub_names, is_bare_name

if TYPE_CHECKING:  # a model loads while the rest of the server is imported
    from siglip_edge.server.embedding.embedder import Embedder
    from siglip_edge.server.embedding.preparation import Model

logger = logging.getLogger("siglip_edge")

LOADING_RETRY_S = 2.0
"""Seconds of Retry-After while a model loads: more than a base model needs (docs/performance.md)."""

_STALL_FACTOR = 20.0
"""A lane counts as stuck when a run takes this many times the seconds that its tokens or patches should take, but not
before `_STALL_S` seconds."""
_STALL_S = 30.0

OnFailure = Callable[[str], None]
"""Gets the sentence that says why a model cannot be loaded."""

Assemble = Callable[[str, "Model"], "Embedder"]
"""(name, model) -> the model's embedder, warmed up."""


class State(StrEnum):
    PLANNED = "not loaded"
    LOADING = "loading"
    ANSWERS = "a tower is loading"
    """Requests are taken; requests for the tower that is still loading wait for it."""
    READY = "ready"
    FAILED = "failed"


class ServedModel:
    """A name, its manifest and, once loaded, its embedder. Thread-safe."""

    def __init__(
        self,
        name: str,
        manifest: Manifest,
        plan: ExecutionPlan,
        towers: tuple[Tower, ...],
        open_model: Callable[[], Model],
        *,
        aliases: tuple[str, ...] = (),
        max_patches: int | None = None,
    ) -> None:
        """`plan`: the first plan to try. `towers`: the served towers of the model, loaded or not. `aliases`: further
        names. `max_patches`: most patches of an image whose request does not say; None: the model's own number.

        `open_model` raises ModelError or ProviderUnavailable.
        """
        self.name = name
        self.manifest = manifest
        self.towers = towers
        self.aliases = aliases
        self._max_patches = max_patches
        self.created = int(time.time())
        """Unix seconds."""
        self.state = State.PLANNED
        self.embedder: Embedder | None = None
        """None until ANSWERS."""
        self.failure = ""
        """One sentence that says why the model, or a tower of it, failed; empty without a failure."""
        self._since = time.monotonic()
        self._planned = plan
        self._open = open_model
        self._model: Model | None = None
        self._assemble: Assemble | None = None
        self._on_late_failure: Callable[[], None] = lambda: None
        self._changed = threading.Condition(threading.RLock())

    @classmethod
    def planned(cls, listed: ListedModel, planned: PlannedModel, when: LoadTime) -> ServedModel:
        """A model directory that is not loaded yet."""
        manifest = _templated(planned.manifest, listed.text_template)
        served = cls(
            listed.name,
            manifest,
            planned.plans[0],
            planned.towers,
            lambda: planned.open(when),
            aliases=tuple(dict.fromkeys((*listed.aliases, *hub_names(manifest.source)))),
            max_patches=listed.max_patches,
        )
        served.created = planned.created
        return served

    @classmethod
    def ready(
        cls, model: Model, assemble: Assemble, text_template: str | None = None, max_patches: int | None = None
    ) -> ServedModel:
        """A model that is in memory already."""
        manifest = _templated(model.manifest, text_template)
        served = cls(manifest.name, manifest, model.plan, model.towers, lambda: model, max_patches=max_patches)
        served.assemble_with(assemble)
        served.load()
        return served

    @property
    def local_source(self) -> str | None:
        """Name of the local folder that the model was exported from; None for a hub's checkpoint."""
        return self.manifest.source if is_bare_name(self.manifest.source) else None

    @property
    def plan(self) -> ExecutionPlan:
        """The plan of the loaded model; until it is loaded, the first plan to try."""
        return self.embedder.model.plan if self.embedder else self._planned

    @property
    def patches(self) -> tuple[int, int] | None:
        """Most patches of an image whose request does not say, and the greatest number that a request may ask for.

        None: the model has no choice, or its images are not served.
        """
        vision = self.manifest.towers.vision
        if vision is None or Tower.VISION not in self.towers or not isinstance(vision.geometry, Patches):
            return None
        return self._max_patches or vision.geometry.default_patches, vision.geometry.most_patches

    def start(
        self,
        on_failure: OnFailure = lambda message: None,  # noqa: ARG005
        on_late_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Load in a thread. `on_failure(sentence)`: called when the model cannot be loaded. `on_late_failure`: called
        when the model answers already, and another tower cannot be loaded.
        """
        self.state, self._on_late_failure = State.LOADING, on_late_failure
        threading.Thread(target=self._load_in_background, args=(on_failure,), name="load", daemon=True).start()

    def assemble_with(self, assemble: Assemble) -> None:
        """Make the embedder with `assemble`: now if the model is opened already, else when it is."""
        with self._changed:
            self._assemble = assemble
            if self._model is not None:
                self._answer(self._model)

    def wait(self, timeout: float | None = None) -> None:
        """Return when the model answers or has failed, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.state not in {State.PLANNED, State.LOADING}, timeout)

    def load(self) -> Embedder:
        """The embedder. The first thread that needs it loads the model, and other threads wait.

        Raises ModelError or ProviderUnavailable; the next call then tries again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.state is not State.LOADING)
            if self.embedder is not None:
                return self.embedder
            self.state = State.LOADING
        try:
            self._opened(self._open())
        except BaseException:
            self._set(State.PLANNED)
            raise
        assert self.embedder is not None
        return self.embedder

    def preload(self, on_failure: OnFailure) -> None:
        """Load now, unless a request has loaded the model already. `on_failure(sentence)`: it cannot be loaded."""
        try:
            self.load()
        except Exception as error:  # noqa: BLE001 - the probes report every kind of failure
            self.failure = _logged(error)
            self._set(State.FAILED)
            on_failure(self.failure)

    def check_answers(self) -> None:
        """Raise NotReady while the model loads, after a failed load, and when a lane with work finishes none of it.

        A tower that is still loading raises nothing: its requests wait for it.
        """
        if self.state is State.FAILED:
            raise NotReady(f"model {self.name} could not be loaded: {self.failure}", retry_after_s=LOADING_RETRY_S)
        if self.embedder is None:
            raise NotReady(f"model {self.name} is loading", retry_after_s=LOADING_RETRY_S)
        for tower, lane in self.embedder.lanes.items():
            if not lane.is_alive:
                raise NotReady(f"a thread of the {tower} tower has ended, though the server has not")
            if (run := lane.oldest_run) and run.seconds > max(_STALL_S, _STALL_FACTOR * run.expected_s):
                raise NotReady(f"the {tower} tower has not finished a run for {run.seconds:.0f} s")

    def check_ready(self) -> None:
        """As `check_answers`; raises NotReady also until every tower that loads at start-up is loaded."""
        self.check_answers()
        if self.failure:
            raise NotReady(f"a tower of model {self.name} could not be loaded; the server's log says why")
        if self.state is State.ANSWERS:
            raise NotReady(f"a tower of model {self.name} is loading", retry_after_s=LOADING_RETRY_S)

    @property
    def status(self) -> str:
        """`ready`, or the reason why the model is not ready."""
        if self.state is State.PLANNED:
            return State.PLANNED
        try:
            self.check_ready()
        except NotReady as error:
            return str(error)
        return State.READY

    def _load_in_background(self, on_failure: OnFailure) -> None:
        try:
            self._opened(self._open())
        except Exception as error:  # noqa: BLE001 - the probes report every kind of failure
            self.failure = _logged(error)
            self._set(State.FAILED)
            on_failure(self.failure)

    def _opened(self, model: Model) -> None:
        with self._changed:
            self._model = model
            if self._assemble is not None:
                self._answer(model)
        model.loading.add_done_callback(self._settled)

    def _answer(self, model: Model) -> None:
        assert self._assemble is not None
        self.embedder = self._assemble(self.name, model)
        self._set(State.ANSWERS)
        if model.loading.done() and not self.failure:
            self._set(State.READY)

    def _settled(self, loading: Future[None]) -> None:
        """Called when every tower is loaded, or when a tower failed; the other tower still answers requests."""
        if error := loading.exception():
            self.failure = _logged(error)
            self._on_late_failure()
        elif self.embedder is not None:
            self._set(State.READY)

    def _set(self, state: State) -> None:
        with self._changed:
            if state is State.READY and self.state is not state:
                seconds, plan = time.monotonic() - self._since, self.plan
                logger.info("model %s ready in %.2f s: %s: %s", self.name, seconds, plan.place, plan.reason)
            self.state = state
            self._changed.notify_all()


def _templated(manifest: Manifest, text_template: str | None) -> Manifest:
    """The manifest with the space of vectors whose texts are put into the template."""
    return msgspec.structs.replace(manifest, space_id=templated(manifest.space_id, text_template))


def _logged(error: BaseException) -> str:
    """Write the error to the log, with a traceback unless it is a SiglipEdgeError. -> its sentence."""
    message = str(error) or type(error).__name__
    logger.critical("%s", message, exc_info=None if isinstance(error, SiglipEdgeError) else error)
    return message
