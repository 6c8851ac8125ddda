"""`POST /v1/rank`."""

from __future__ import annotations

from typing import Any

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
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader, is_token_ids
from siglip_edge.server.inputs.schemas import Modality


class Rank:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, RankRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        queries = _queries(request.query)
        reader = self._service.reader(embedder)
        inputs = _read(reader, request, embedder.model.manifest)
        embeddings = embedder.embed(inputs, req.context.request, max_patches=request.max_patches)
        candidates, scoring = embeddings[len(queries) :], embedder.model.manifest.scoring
        kind = reader.kind_of_strings(request.modality)
        results = [
            RankResult(
                query=echo(query, kind),
                rankings=_rankings(ranked(embedding, candidates, scoring), request, kind),
                truncated=embedding.truncated,
            )
            for query, embedding in zip(queries, embeddings, strict=False)
        ]
        resp.data = json.render(RankAnswer(results, embedder.name, usage_of(embeddings)))


def _queries(given: Any) -> list[Any]:
    """The items of `query`; token ids are one."""
    return given if isinstance(given, list) and not is_token_ids(given) else [given]


def _read(reader: InputReader, request: RankRequest, manifest: Manifest) -> list[AnyInput | InvalidInput]:
    """The queries, then the candidates, each with its prompt where the model has prompts."""
    queries = reader.read_all(request.query, "query", request.modality)
    candidates = reader.read_each(request.candidates, "candidates", request.modality)
    return prompts.ranking(manifest.towers.text, queries, candidates)


def _rankings(scores: list[Score], request: RankRequest, kind: Modality | None) -> list[Ranking]:
    return [
        Ranking(
            index=score.index,
            candidate=echo(request.candidates[score.index], kind),
            score=score.score if request.return_scores else UNSET,
            similarity=score.similarity if request.return_scores else UNSET,
            truncated=score.truncated,
        )
        for score in scores[: request.top_n]
    ]
