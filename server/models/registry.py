"""The served models by name: each its own space, lanes and cache. The first one is the default."""

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
    """Lookup by name. The default model loads in the background, the others when they are first asked for."""

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
        """The model of that name; without a name the default. Raises ModelNotFound."""
        model = self._served.get(name) if name else self._default
        if model is None:
            message = f"no model {name[:100]!r} here; served: {', '.join(self._served)}" if name else ""
            raise ModelNotFound(message, param="model")
        return model

    def embedder(self, name: str | None, context: RequestContext, *expected_spaces: str | None) -> Embedder:
        """The embedder for a request. Raises ModelNotFound, SpaceMismatch or NotReady."""
        model = self.find(name)
        context.space = model.manifest.space_id
        check_space(model.manifest, *expected_spaces)
        if model is self._default or model.embedder is not None:
            model.check_answers()
        return model.embedder or self._load_lazily(model)

    def check_ready(self) -> None:
        """Raise NotReady while the default model is not ready or the server stops; admitted requests are answered."""
        if self._is_stopping():
            raise NotReady("the server is shutting down")
        self._default.check_ready()

    def backlog_s(self) -> float:
        """Estimated seconds until the longest queue has run."""
        embedders = [model.embedder for model in self.all() if model.embedder]
        return max((lane.backlog_s for embedder in embedders for lane in embedder.lanes.values()), default=0.0)

    def start(self, assemble: Assemble) -> None:
        """Make embedders with `assemble`, and load the default model in a thread unless that has begun."""
        for model in self.all():
            model.assemble_with(assemble)
        if self._default.state is State.PLANNED:
            self._default.start()

    def close(self) -> None:
        """Finish what was admitted and end the lanes' threads."""
        for model in self.all():
            if model.embedder is not None:
                for lane in model.embedder.lanes.values():
                    lane.close()

    @staticmethod
    def _load_lazily(model: ServedModel) -> Embedder:
        try:
            return model.load()
        except (ModelError, ProviderUnavailable) as error:
            logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
            raise NotReady(f"model {model.name} could not be loaded; the server's log says why") from None
