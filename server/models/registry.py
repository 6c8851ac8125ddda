"""The served models by name. Each model has its own embedding space, lanes and cache; the first is the default."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable
from siglip_edge.server.embedding.embedder import Embedder, check_space
from siglip_edge.server.http.errors import ModelNotFound
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.models.served_model import Assemble, OnFailure, ServedModel, State

logger = logging.getLogger("siglip_edge")


class Models:
    """Finds models by name or alias. Models that are not preloaded load with their first request."""

    def __init__(
        self,
        served: Sequence[ServedModel],
        *,
        preload: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`preload`: load every model at the start, not only the default model."""
        self._served = {model.name: model for model in served}
        by_alias = {alias: model for model in reversed(served) for alias in reversed(model.aliases)}
        # Of several models with one alias, the first counts.
        self._by_name = _by_local_source(served) | by_alias | self._served
        self._default = served[0]
        self._preloaded = served if preload else served[:1]
        self._is_stopping = is_stopping

    @property
    def default(self) -> ServedModel:
        return self._default

    def all(self) -> list[ServedModel]:
        return list(self._served.values())

    def serving(self, tower: Tower) -> list[str]:
        """Names of the models that have this tower."""
        return [model.name for model in self.all() if tower in model.towers]

    def naflex(self) -> list[str]:
        """Names of the models that take `max_patches`."""
        return [model.name for model in self.all() if model.patches is not None]

    def find(self, name: str | None) -> ServedModel:
        """The model of that name, or the default model without a name. Raises ModelNotFound."""
        model = self._by_name.get(name) if name else self._default
        if model is None:
            message = f"no model {name[:100]!r} here; served: {', '.join(self._served)}" if name else ""
            raise ModelNotFound(message, param="model")
        return model

    def embedder(self, name: str | None, context: RequestContext, *expected_spaces: str | None) -> Embedder:
        """The embedder for a request; loads its model if necessary. Raises ModelNotFound, SpaceMismatch or NotReady."""
        model = self.find(name)
        context.space = model.manifest.space_id
        check_space(model.manifest, *expected_spaces)
        if model is self._default or model.embedder is not None:
            model.check_answers()
        return model.embedder or self._load_lazily(model)

    def check_ready(self) -> None:
        """Raise NotReady while a model that loads at the start is not ready, and while the server stops.

        Requests that were admitted before the stop are still answered.
        """
        if self._is_stopping():
            raise NotReady("the server is shutting down")
        for model in self._preloaded:
            model.check_ready()

    def backlog_s(self) -> float:
        """Estimated seconds until every row of the longest queue has run."""
        embedders = [model.embedder for model in self.all() if model.embedder]
        return max((lane.backlog_s for embedder in embedders for lane in embedder.lanes.values()), default=0.0)

    def names_of(self, model: ServedModel) -> list[str]:
        """The aliases by which the model is found."""
        local = {model.local_source} - {None, *self._served, *model.aliases}
        return [alias for alias in (*model.aliases, *local) if alias and self._by_name.get(alias) is model]

    def start(self, assemble: Assemble, on_failure: OnFailure = lambda message: None) -> None:  # noqa: ARG005
        """Let every model make its embedder with `assemble`, and load the models in a thread.

        The default model may load already. `on_failure(sentence)`: called when another model cannot be loaded.
        """
        for model in self.all():
            model.assemble_with(assemble)
        if self._default.state is State.PLANNED:
            self._default.start()
        if others := self._preloaded[1:]:
            threading.Thread(target=self._preload, args=(others, on_failure), name="preload", daemon=True).start()

    def _preload(self, others: Sequence[ServedModel], on_failure: OnFailure) -> None:
        """Load one model after another, because two loads at once need the memory of both."""
        self._default.wait()
        for model in others:
            model.preload(on_failure)

    def close(self) -> None:
        """Run the admitted rows, then end the threads of the lanes."""
        for model in self.all():
            if model.embedder is not None:
                for lane in model.embedder.lanes.values():
                    lane.close()

    @staticmethod
    def _load_lazily(model: ServedModel) -> Embedder:
        try:
            return model.load()
        except (ModelError, ProviderUnavailable) as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence is enough without a traceback
            raise NotReady(f"model {model.name} could not be loaded; the server's log says why") from None


def _by_local_source(served: Sequence[ServedModel]) -> dict[str, ServedModel]:
    """A folder's name is no identity, unlike a hub id: a name that two models' checkpoints had leads to neither."""
    sources = Counter(model.local_source for model in served)
    return {source: model for model in served if (source := model.local_source) and sources[source] == 1}
