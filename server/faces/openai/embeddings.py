"""`POST /v1/embeddings` and `POST /v1/embeddings/image`."""

from __future__ import annotations

from collections.abc import Sequence

import falcon
from msgspec import UNSET

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.embedding import prompts
from siglip_edge.server.embedding.embedder import Embedder, Outcome
from siglip_edge.server.faces.openai.encodings import Encoding, requested
from siglip_edge.server.faces.openai.errors import error_in_place
from siglip_edge.server.faces.openai.schemas import (
    EmbeddingItem,
    EmbeddingsAnswer,
    EmbeddingsForm,
    EmbeddingsRequest,
)
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.usage import usage_of
from siglip_edge.server.http import json
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader


class Embeddings:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, EmbeddingsRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        inputs = _read(self._service.reader(embedder), request)
        resp.data = json.render(_answer(embedder, inputs, request, req))

    def on_post_image(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.form(req, EmbeddingsForm)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        inputs = self._service.reader(embedder).read_form(request.file, request.input, request.modality)
        resp.data = json.render(_answer(embedder, inputs, request, req))


def _read(reader: InputReader, request: EmbeddingsRequest) -> list[AnyInput | InvalidInput]:
    """From `input` or `messages`. Raises InvalidInput when the request has both, or neither."""
    if request.input is UNSET and request.messages is UNSET:
        raise InvalidInput("Object missing required field `input`", param="input", code="invalid_value")
    if request.input is UNSET:
        return [reader.read_messages(request.messages, "messages", request.modality)]
    if request.messages is not UNSET:
        message = '"messages" stands in place of "input": send only one of them'
        raise InvalidInput(message, param="messages", code="invalid_value")
    return reader.read_all(request.input, "input", request.modality)


def _answer(
    embedder: Embedder,
    inputs: Sequence[AnyInput | InvalidInput],
    request: EmbeddingsRequest | EmbeddingsForm,
    req: falcon.Request,
) -> EmbeddingsAnswer:
    encoding = requested(request.encoding_format, request.embedding_type)
    text = embedder.model.manifest.towers.text
    prompt = prompts.requested(text, request.prompt_name, request.input_type, request.task)
    embed = embedder.embed_tolerantly if request.on_error == "null" else embedder.embed
    outcomes = embed(prompts.prompted(inputs, prompt), req.context.request, max_patches=request.max_patches)
    data = [_item(index, outcome, embedder, request.dimensions, encoding) for index, outcome in enumerate(outcomes)]
    return EmbeddingsAnswer(
        object="list", data=data, model=embedder.name, usage=usage_of(outcomes), encoding_format=encoding.name
    )


def _item(
    index: int, outcome: Outcome, embedder: Embedder, dimensions: int | None, encoding: Encoding
) -> EmbeddingItem:
    if isinstance(outcome, InvalidInput):
        return EmbeddingItem(object="embedding", index=index, embedding=None, error=error_in_place(outcome))
    vector = encoding.encode(embedder.shorten(outcome, dimensions).vector)
    return EmbeddingItem(object="embedding", index=index, embedding=vector, truncated=outcome.truncated)
