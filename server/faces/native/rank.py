"""`POST /v1/rank`."""

from __future__ import annotations

import falcon
from msgspec import UNSET

from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.embedding import prompts
from siglip_edge.server.embedding.ranking import Score, ranked
from siglip_edge.server.faces.native.schemas import RankAnswer, Ranking, RankRequest, RankResult
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.usage import usage_of
from siglip_edge.server.http import json
from siglip_edge.server.inputs.echo import echo
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader


class Rank:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, RankRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        queries = request.query if isinstance(request.query, list) else [request.query]
        inputs = _read(self._service.reader, request, embedder.model.manifest)
        embeddings = embedder.embed(inputs, req.context.request, max_patches=request.max_patches)
        candidates, scoring = embeddings[len(queries) :], embedder.model.manifest.scoring
        results = [
            RankResult(
                query=echo(query, request.modality),
                rankings=_rankings(ranked(embedding, candidates, scoring), request),
                truncated=embedding.truncated,
            )
            for query, embedding in zip(queries, embeddings, strict=False)
        ]
        resp.data = json.render(RankAnswer(results, embedder.name, usage_of(embeddings)))


def _read(reader: InputReader, request: RankRequest, manifest: Manifest) -> list[AnyInput | InvalidInput]:
    """The queries, then the candidates, each with its prompt where the model has prompts."""
    read_queries = reader.read_each if isinstance(request.query, list) else reader.read_all
    queries = read_queries(request.query, "query", request.modality)
    candidates = reader.read_each(request.candidates, "candidates", request.modality)
    return prompts.ranking(manifest.towers.text, queries, candidates)


def _rankings(scores: list[Score], request: RankRequest) -> list[Ranking]:
    return [
        Ranking(
            index=score.index,
            candidate=echo(request.candidates[score.index], request.modality),
            score=score.score if request.return_scores else UNSET,
            similarity=score.similarity if request.return_scores else UNSET,
            truncated=score.truncated,
        )
        for score in scores[: request.top_n]
    ]
