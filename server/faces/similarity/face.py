"""Vision-Language Similarity Service's evaluation, on the native face's paths, and its health.

Its metrics and documentation are among the operations.
"""

from __future__ import annotations

from collections.abc import Collection

from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.schemas import ErrorAnswer
from siglip_edge.server.faces.route import PICTURE, Face, Route, Tag, embedding_route
from siglip_edge.server.faces.service import Service
from siglip_edge.server.faces.similarity.evaluation import Similarity
from siglip_edge.server.faces.similarity.health import SimilarityHealthProbe
from siglip_edge.server.faces.similarity.schemas import (
    SimilarityAnswer,
    SimilarityBatchAnswer,
    SimilarityBatchRequest,
    SimilarityHealth,
    SimilarityRequest,
)

_PAIR = {"image_input": PICTURE, "text_prompt": "red heart"}


def similarity(service: Service) -> Face:
    evaluate, health = Similarity(service), SimilarityHealthProbe(service.models)
    return Face(
        name="similarity",
        tag=Tag("similarity service", "The API of Vision-Language Similarity Service."),
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            embedding_route(
                "/evaluator/v1/evaluation/single",
                evaluate.on_post_single,
                "The CLIP score of an image and a text, when the body has `image_input`.",
                SimilarityRequest,
                SimilarityAnswer,
                name="compute_clip_score",
                example=_PAIR,
                takes=_has_pair,
            ),
            embedding_route(
                "/evaluator/v1/evaluation/batch",
                evaluate.on_post_batch,
                "The CLIP scores of many pairs, when the body has `evaluations`.",
                SimilarityBatchRequest,
                SimilarityBatchAnswer,
                name="compute_clip_scores",
                example={"evaluations": [_PAIR]},
                takes=_has_evaluations,
            ),
            Route(
                "GET",
                "/evaluator/health",
                health.on_get,
                "Whether the default model is ready.",
                name="check_evaluator",
                answer=SimilarityHealth,
                errors=(503,),
                is_open=True,
            ),
        ),
    )


def _has_pair(keys: Collection[str]) -> bool:
    return not {"image_input", "text_prompt", "model_config_name"}.isdisjoint(keys)


def _has_evaluations(keys: Collection[str]) -> bool:
    return "evaluations" in keys
