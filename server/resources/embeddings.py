"""`POST /v1/embeddings`."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from runtime.errors import InvalidInput
from runtime.manifest import Manifest
from server import errors, schemas
from server.body import read_json
from server.embedding import Embedding, Outcome, shorten
from server.inputs import InputReader
from server.models import Models
from server.schemas import EmbeddingItem, EmbeddingsAnswer, EmbeddingsRequest, EncodingFormat, Usage


class Embeddings:
    def __init__(self, models: Models, reader: InputReader, max_body_bytes: int) -> None:
        self._models = models
        self._reader = reader
        self._max_body_bytes = max_body_bytes

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = read_json(req, EmbeddingsRequest, self._max_body_bytes)
        call = req.context.call
        expected = (request.expect_space, req.get_header("X-Embedding-Space"))
        embedder = self._models.embedder(request.model, call, *expected)
        inputs = self._reader.read_all(request.input, "input", request.modality)
        embed = embedder.embed_tolerantly if request.on_error == "null" else embedder.embed
        name = self._models.find(request.model).name
        resp.data = schemas.render(answer(embed(inputs, call), request, embedder.model.manifest, name))


def answer(outcomes: Sequence[Outcome], request: EmbeddingsRequest, manifest: Manifest, name: str) -> EmbeddingsAnswer:
    """Outcomes as OpenAI's list. Raises InvalidInput for `dimensions` the model cannot give."""
    data = [
        item(index, outcome, manifest, request.dimensions, request.encoding_format)
        for index, outcome in enumerate(outcomes)
    ]
    return EmbeddingsAnswer(object="list", data=data, model=name, usage=usage(outcomes))


def item(
    index: int, outcome: Outcome, manifest: Manifest, dimensions: int | None, encoding: EncodingFormat | None
) -> EmbeddingItem:
    if isinstance(outcome, InvalidInput):
        return EmbeddingItem(object="embedding", index=index, embedding=None, error=errors.body_of(outcome))
    vector = schemas.vector(shorten(outcome, manifest, dimensions).vector, encoding)
    return EmbeddingItem(object="embedding", index=index, embedding=vector, truncated=outcome.truncated)


def usage(outcomes: Sequence[Outcome]) -> Usage:
    """What the inputs cost: real tokens, without padding; images count in patches only."""
    good = [outcome for outcome in outcomes if isinstance(outcome, Embedding)]
    tokens = sum(embedding.tokens for embedding in good)
    patches = sum(embedding.patches for embedding in good)
    return Usage(prompt_tokens=tokens, total_tokens=tokens, image_patches=patches)
