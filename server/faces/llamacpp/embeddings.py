"""`POST /embedding`, and `POST /embeddings` with `content`."""

from __future__ import annotations

import falcon

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.faces.llamacpp.content import read_content
from siglip_edge.server.faces.llamacpp.normalization import normalized
from siglip_edge.server.faces.llamacpp.schemas import Content, ContentRequest, EmbeddingRequest, PromptEmbedding
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import json
from siglip_edge.server.inputs.input_reader import AS_TEXT_BY_MODALITY


class ContentEmbeddings:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, ContentRequest)
        self._embed(req, resp, request, request.content, "content")

    def on_post_either(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, EmbeddingRequest)
        if request.content is not None and request.input is not None:
            raise InvalidInput('"input" and "content" name the same field: send only one of them', param="input")
        if request.content is not None:
            self._embed(req, resp, request, request.content, "content")
        elif request.input is not None:
            self._embed(req, resp, request, request.input, "input")
        else:
            raise InvalidInput('"input" or "content" must be provided')

    def _embed(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        request: ContentRequest | EmbeddingRequest,
        content: Content,
        param: str,
    ) -> None:
        embedder = self._service.embedder(req, request.model)
        reader = self._service.reader(embedder, AS_TEXT_BY_MODALITY)
        embeddings = embedder.embed(read_content(reader, content, param, request.modality), req.context.request)
        items = [
            PromptEmbedding(index, normalized(one.vector, request.embd_normalize)[None], one.truncated)
            for index, one in enumerate(embeddings)
        ]
        resp.data = json.render(items)
