"""`POST /v1/embeddings` and `POST /v1/embeddings/image`."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.embedding.embedder import Embedder, Embedding, Outcome
from siglip_edge.server.faces.schemas import EmbeddingItem, EmbeddingsAnswer, EmbeddingsForm, EmbeddingsRequest, Usage
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import errors, json
from siglip_edge.server.inputs.input_reader import AnyInput


class Embeddings:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, EmbeddingsRequest)
        embedder = self._service.embedder(req, request)
        inputs = self._service.reader.read_all(request.input, "input", request.modality)
        resp.data = json.render(_answer(embedder, inputs, request, req))

    def on_post_image(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.form(req, EmbeddingsForm)
        embedder = self._service.embedder(req, request)
        inputs = self._service.reader.read_form(request.file, request.input)
        resp.data = json.render(_answer(embedder, inputs, request, req))


def usage(outcomes: Sequence[Outcome]) -> Usage:
    """What the inputs cost: real tokens, without padding; images count in patches only."""
    good = [outcome for outcome in outcomes if isinstance(outcome, Embedding)]
    tokens = sum(embedding.tokens for embedding in good)
    patches = sum(embedding.patches for embedding in good)
    return Usage(prompt_tokens=tokens, total_tokens=tokens, image_patches=patches)


def _answer(
    embedder: Embedder,
    inputs: Sequence[AnyInput | InvalidInput],
    request: EmbeddingsRequest | EmbeddingsForm,
    req: falcon.Request,
) -> EmbeddingsAnswer:
    embed = embedder.embed_tolerantly if request.on_error == "null" else embedder.embed
    outcomes = embed(inputs, req.context.request)
    data = [_item(index, outcome, embedder, request) for index, outcome in enumerate(outcomes)]
    return EmbeddingsAnswer(object="list", data=data, model=embedder.name, usage=usage(outcomes))


def _item(
    index: int, outcome: Outcome, embedder: Embedder, request: EmbeddingsRequest | EmbeddingsForm
) -> EmbeddingItem:
    if isinstance(outcome, InvalidInput):
        return EmbeddingItem(object="embedding", index=index, embedding=None, error=errors.body_of(outcome))
    vector = json.vector(embedder.shorten(outcome, request.dimensions).vector, request.encoding_format)
    return EmbeddingItem(object="embedding", index=index, embedding=vector, truncated=outcome.truncated)
