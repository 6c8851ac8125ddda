"""`POST /evaluator/v1/evaluation/single` and `/batch`, for bodies with `image_input` or `evaluations`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import falcon

from siglip_edge.runtime.artifacts.manifest import Scoring
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.scoring import clip_score
from siglip_edge.server.embedding.embedder import Embedder, Embedding, Outcome
from siglip_edge.server.embedding.ranking import Score, score_pair
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.similarity.schemas import (
    SimilarityAnswer,
    SimilarityBatchAnswer,
    SimilarityBatchRequest,
    SimilarityRequest,
)
from siglip_edge.server.http import json
from siglip_edge.server.http.errors import ModelNotFound
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.inputs.echo import echo_image
from siglip_edge.server.inputs.input_reader import AnyInput, InputReader

Result = tuple[str, Score | str]
"""Name of the model, and the score of a pair or the sentence that says why it has none."""


class Similarity:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_post_single(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, SimilarityRequest)
        embedder = self._embedder(req, request.model_config_name)
        reader = self._service.reader(embedder)
        pair = (reader.image(request.image_input, "image_input"), reader.text(request.text_prompt, "text_prompt"))
        image, text = embedder.embed(pair, req.context.request, verbatim=True)
        score = score_pair(image, text, embedder.model.manifest.scoring)
        resp.data = json.render(_answer(request, (embedder.name, score), _elapsed_ms(req)))

    def on_post_batch(self, req: falcon.Request, resp: falcon.Response) -> None:
        request = self._service.json(req, SimilarityBatchRequest)
        pairs, results = self._read(request.evaluations)
        by_model: dict[str | None, dict[int, SimilarityRequest]] = defaultdict(dict)
        for index, pair in enumerate(pairs):
            if index not in results:
                by_model[pair.model_config_name][index] = pair
        for name, named in by_model.items():
            results |= self._score(req, name, named)
        resp.data = json.render(_batch_answer(pairs, results, _elapsed_ms(req)))

    def _read(self, evaluations: Any) -> tuple[list[SimilarityRequest], dict[int, Result]]:
        """-> the pairs, and for those that are none the result that says why."""
        if not isinstance(evaluations, list):
            raise InvalidInput("a list of pairs is expected", param="evaluations", code="invalid_value")
        self._service.inputs.check_count(len(evaluations), "evaluations")
        pairs: list[SimilarityRequest] = []
        failed: dict[int, Result] = {}
        for index, given in enumerate(evaluations):
            try:
                pairs.append(json.convert_item(given, SimilarityRequest, f"evaluations[{index}]"))
            except InvalidInput as error:
                pairs.append(_readable(given))
                failed[index] = "", f"{error.param}: {error}"
        return pairs, failed

    def _embedder(self, req: falcon.Request, name: str | None) -> Embedder:
        try:
            return self._service.embedder(req, name)
        except ModelNotFound as error:
            error.param = "model_config_name"
            raise

    def _score(self, req: falcon.Request, model: str | None, pairs: dict[int, SimilarityRequest]) -> dict[int, Result]:
        """Index -> the result of a pair, for pairs of one model. A model that is not served fails these pairs alone."""
        try:
            embedder = self._embedder(req, model)
        except ModelNotFound as error:
            return {index: (str(model), f"evaluations[{index}].{error.param}: {error}") for index in pairs}
        reader = self._service.reader(embedder)
        inputs = [one for index, pair in pairs.items() for one in _inputs(pair, f"evaluations[{index}]", reader)]
        outcomes = iter(embedder.embed_tolerantly(inputs, req.context.request, verbatim=True))
        scoring = embedder.model.manifest.scoring
        return {index: (embedder.name, _scored(next(outcomes), next(outcomes), scoring)) for index in pairs}


def _inputs(
    pair: SimilarityRequest, param: str, reader: InputReader
) -> tuple[AnyInput | InvalidInput, AnyInput | InvalidInput]:
    """Image and text; a bad input is replaced by its error."""
    return (
        reader.attempt(reader.image, pair.image_input, f"{param}.image_input"),
        reader.attempt(reader.text, pair.text_prompt, f"{param}.text_prompt"),
    )


def _readable(given: Any) -> SimilarityRequest:
    """The strings of a bad pair, which its result repeats."""
    fields = given if isinstance(given, dict) else {}
    image, text = (fields.get(name) for name in ("image_input", "text_prompt"))
    return SimilarityRequest(
        image_input=image if isinstance(image, str) else "", text_prompt=text if isinstance(text, str) else ""
    )


def _scored(image: Outcome, text: Outcome, scoring: Scoring) -> Score | str:
    if isinstance(image, Embedding) and isinstance(text, Embedding):
        return score_pair(image, text, scoring)
    error = image if isinstance(image, InvalidInput) else text
    assert isinstance(error, InvalidInput)
    return f"{error.param}: {error}"


def _batch_answer(
    pairs: Sequence[SimilarityRequest], results: dict[int, Result], elapsed_ms: float
) -> SimilarityBatchAnswer:
    each_ms = round(elapsed_ms / len(pairs), 1)
    answers = [_answer(pair, results[index], each_ms) for index, pair in enumerate(pairs)]
    failed = sum(answer.clip_score is None for answer in answers)
    return SimilarityBatchAnswer(
        results=answers,
        total_processed=len(answers),
        total_successful=len(answers) - failed,
        total_failed=failed,
        total_processing_time_ms=elapsed_ms,
    )


def _answer(pair: SimilarityRequest, result: Result, elapsed_ms: float) -> SimilarityAnswer:
    model, score = result
    answer = SimilarityAnswer(
        image_input=echo_image(pair.image_input),
        text_prompt=pair.text_prompt,
        clip_score=None,
        processing_time_ms=elapsed_ms,
        model_used=model,
        score=None,
        similarity=None,
    )
    if isinstance(score, str):
        answer.error = score
    else:
        answer.clip_score = clip_score(score.similarity)
        answer.score, answer.similarity = score.score, score.similarity
        answer.truncated = score.truncated
    return answer


def _elapsed_ms(req: falcon.Request) -> float:
    context: RequestContext = req.context.request
    return round(1000 * context.elapsed, 1)
