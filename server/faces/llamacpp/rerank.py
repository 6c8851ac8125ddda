"""`POST /rerank` and its other names: with `documents` as llama.cpp and Jina spell it, with `texts` as TEI does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import falcon

from siglip_edge.runtime.artifacts.manifest import Scoring
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.embedding import prompts
from siglip_edge.server.embedding.embedder import Embedding
from siglip_edge.server.embedding.ranking import Score, ranked
from siglip_edge.server.faces.llamacpp.schemas import (
    RankedText,
    RerankAnswer,
    RerankRequest,
    RerankResult,
)
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.usage import usage_of
from siglip_edge.server.http import json
from siglip_edge.server.inputs.echo import echo
from siglip_edge.server.inputs.schemas import Modality


class Rerank:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, RerankRequest)
        embedder = self._service.embedder(req, request.model)
        field, documents = _documents(request)
        reader = self._service.reader(embedder)
        query = [reader.attempt(reader.judge, request.query, "query", request.modality)]
        candidates = reader.read_each(documents, field, request.modality)
        kind = reader.kind_of_strings(request.modality)
        manifest = embedder.model.manifest
        embeddings = embedder.embed(prompts.ranking(manifest.towers.text, query, candidates), req.context.request)
        scores = _of_pairs(embeddings[0], embeddings[1:], manifest.scoring)[: request.top_n]
        if field == "texts":
            resp.data = json.render([_ranked_text(score, documents, request, kind) for score in scores])
            return
        results = [_result(score, documents, request, kind) for score in scores]
        answer = RerankAnswer(model=embedder.name, object="list", usage=usage_of(embeddings), results=results)
        resp.data = json.render(answer)


def _documents(request: RerankRequest) -> tuple[str, list[Any]]:
    """-> the name of the field, and its documents."""
    if request.documents is not None and request.texts is not None:
        raise InvalidInput('"documents" and "texts" name the same field: send only one of them', param="texts")
    field, documents = ("documents", request.documents) if request.texts is None else ("texts", request.texts)
    if not documents or not isinstance(documents, list):
        raise InvalidInput(f'"{field}" must be a non-empty string array')
    return field, documents


def _of_pairs(query: Embedding, documents: Sequence[Embedding], scoring: Scoring) -> list[Score]:
    """As `ranked`. These APIs have no place for a fact of the query alone, so every score says that it was cut."""
    scores = ranked(query, documents, scoring)
    return [replace(score, truncated=score.truncated or query.truncated) for score in scores]


def _result(score: Score, documents: list[Any], request: RerankRequest, kind: Modality | None) -> RerankResult:
    document = _as_object(echo(documents[score.index], kind)) if request.return_documents else None
    return RerankResult(index=score.index, relevance_score=score.score, document=document, truncated=score.truncated)


def _as_object(document: Any) -> Any:
    """A string becomes the object that Cohere's and Jina's clients read; objects stay as they were sent."""
    return {"text": document} if isinstance(document, str) else document


def _ranked_text(score: Score, texts: list[Any], request: RerankRequest, kind: Modality | None) -> RankedText:
    text = echo(texts[score.index], kind) if request.return_text else None
    return RankedText(index=score.index, score=score.score, text=text, truncated=score.truncated)
