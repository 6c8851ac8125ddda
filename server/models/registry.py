"""The served models by name. Each model has its own embedding space, lanes and cache; the first is the default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable
from siglip_edge.server.embedding.embedder import Embedder, check_space
from siglip_edge.server.http.errors import ModelNotFound
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.models.served_model import Assemble, ServedModel, State

logger = logging.getLogger("siglip_edge")


class Models:
    """Finds models by name. The default model loads in the background, other models with their first request."""

    def __init__(self, served: Sequence[ServedModel], *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._served = {model.name: model for model in served}
        self._default = served[0]
        self._is_stopping = is_stopping

    @property
    def default(self) -> ServedModel:
        return self._default

    def all(self) -> list[ServedModel]:
        return list(self._served.values())

    def find(self, name: str | None) -> ServedModel:
        """The model of that name, or the default model without a name. Raises ModelNotFound."""
        model = self._served.get(name) if name else self._default
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
        """Raise NotReady while the default model is not ready, and while the server stops.

        Requests that were admitted before the stop are still answered.
        """
        if self._is_stopping():
            raise NotReady("the server is shutting down")
        self._default.check_ready()

    def backlog_s(self) -> float:
        """Estimated seconds until every row of the longest queue has run."""
        embedders = [model.embedder for model in self.all() if model.embedder]
        return max((lane.backlog_s for embedder in embedders for lane in embedder.lanes.values()), default=0.0)

    def start(self, assemble: Assemble) -> None:
        """Let every model make its embedder with `assemble`, and load the default model in a thread unless it loads."""
        for model in self.all():
            model.assemble_with(assemble)
        if self._default.state is State.PLANNED:
            self._default.start()

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
