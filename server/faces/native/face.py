"""Ranking, classification and evaluation, in the project's own shapes."""

from __future__ import annotations

from siglip_edge.server.faces.native.classify import Classify
from siglip_edge.server.faces.native.evaluation import Evaluate
from siglip_edge.server.faces.native.rank import Rank
from siglip_edge.server.faces.native.schemas import (
    ClassifyAnswer,
    ClassifyFileAnswer,
    ClassifyForm,
    ClassifyRequest,
    Evaluation,
    EvaluationBatchAnswer,
    EvaluationBatchRequest,
    EvaluationRequest,
    RankAnswer,
    RankRequest,
)
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.schemas import ErrorAnswer
from siglip_edge.server.faces.route import PICTURE, Face, embedding_route
from siglip_edge.server.faces.service import Service


def native(service: Service) -> Face:
    classify, evaluate = Classify(service), Evaluate(service)
    return Face(
        name="native",
        summary="Ranking, classification, and scores of image-text pairs.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            embedding_route(
                "/v1/rank",
                Rank(service).on_post,
                "Order candidates by how well they belong to each query.",
                RankRequest,
                RankAnswer,
                example={"query": PICTURE, "candidates": ["a cat", "a red dot"], "top_n": 1},
            ),
            embedding_route(
                "/v1/classify",
                classify.on_post,
                "Name an image among labels of your own.",
                ClassifyRequest,
                ClassifyAnswer,
                example={"image": PICTURE, "labels": ["cat", "dot"]},
            ),
            embedding_route(
                "/v1/classify/image",
                classify.on_post_image,
                "Name an uploaded image among labels of your own.",
                ClassifyForm,
                ClassifyFileAnswer,
                example={"labels": ["cat", "dot"]},
                is_form=True,
            ),
            embedding_route(
                "/evaluator/v1/evaluation/single",
                evaluate.on_post_single,
                "How well an image and a text belong together.",
                EvaluationRequest,
                Evaluation,
                example={"image": PICTURE, "text": "a red dot"},
            ),
            embedding_route(
                "/evaluator/v1/evaluation/batch",
                evaluate.on_post_batch,
                "The same for many pairs, with errors in place.",
                EvaluationBatchRequest,
                EvaluationBatchAnswer,
                example={"items": [{"image": PICTURE, "text": "a red dot"}]},
            ),
        ),
    )
