"""`POST /evaluator/v1/evaluation/single` and `/batch`: how well an image and a text belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon

from siglip_edge.runtime.artifacts.manifest import Scoring
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.embedding.embedder import Embedding, Outcome
from siglip_edge.server.embedding.ranking import score_pair
from siglip_edge.server.faces.native.schemas import (
    Evaluation,
    EvaluationBatchAnswer,
    EvaluationBatchRequest,
    EvaluationItem,
    EvaluationRequest,
    EvaluationResult,
)
from siglip_edge.server.faces.openai.errors import error_in_place
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import json
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader


class Evaluate:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post_single(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, EvaluationRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        reader = self._service.reader(embedder)
        pair = (reader.image_of(request.image, "image"), reader.text(request.text, "text"))
        image, text = embedder.embed(pair, req.context.request, verbatim=True, max_patches=request.max_patches)
        score = score_pair(image, text, embedder.model.manifest.scoring)
        resp.data = json.render(Evaluation(score.score, score.similarity, embedder.name, score.truncated))

    def on_post_batch(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, EvaluationBatchRequest)
        embedder = self._service.embedder(req, request.model, request.expect_space)
        embed = embedder.embed_tolerantly if request.on_error == "null" else embedder.embed
        inputs = _inputs(request.items, self._service.reader(embedder))
        outcomes = embed(inputs, req.context.request, verbatim=True, max_patches=request.max_patches)
        pairs = [outcomes[start : start + 2] for start in range(0, len(outcomes), 2)]
        results = [_result(index, pair, embedder.model.manifest.scoring) for index, pair in enumerate(pairs)]
        resp.data = json.render(EvaluationBatchAnswer(results, embedder.name))


def _inputs(items: Any, reader: InputReader) -> list[AnyInput | InvalidInput]:
    """Image, text, image, text, …; a bad input is replaced by its error."""
    if not isinstance(items, list):
        raise InvalidInput("a list of pairs is expected", param="items", code="invalid_value")
    reader.check_count(len(items), "items")
    return [one for index, item in enumerate(items) for one in _pair(item, f"items[{index}]", reader)]


def _pair(given: Any, param: str, reader: InputReader) -> tuple[AnyInput | InvalidInput, AnyInput | InvalidInput]:
    try:
        item = json.convert_item(given, EvaluationItem, param)
    except InvalidInput as error:
        return error, error
    return (
        reader.attempt(reader.image_of, item.image, f"{param}.image"),
        reader.attempt(reader.text, item.text, f"{param}.text"),
    )


def _result(index: int, pair: Sequence[Outcome], scoring: Scoring) -> EvaluationResult:
    for outcome in pair:
        if isinstance(outcome, InvalidInput):
            return EvaluationResult(index=index, score=None, similarity=None, error=error_in_place(outcome))
    image, text = (outcome for outcome in pair if isinstance(outcome, Embedding))
    score = score_pair(image, text, scoring)
    return EvaluationResult(index=index, score=score.score, similarity=score.similarity, truncated=score.truncated)
