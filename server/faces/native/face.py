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
from siglip_edge.server.faces.route import PICTURE, Face, Tag, embedding_route
from siglip_edge.server.faces.service import Service

_RANKING = Tag("ranking and classification", "Candidates by a query, images by labels of your own.")
_EVALUATION = Tag("evaluation", "Scores of pairs of image and text.")


def native(service: Service) -> Face:
    classify, evaluate = Classify(service), Evaluate(service)
    return Face(
        name="native",
        tag=_RANKING,
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            embedding_route(
                "/v1/rank",
                Rank(service).on_post,
                "Order candidates by how well they belong to each query.",
                RankRequest,
                RankAnswer,
                name="rank",
                example={"query": PICTURE, "candidates": ["pizza", "red heart"], "top_n": 1},
            ),
            embedding_route(
                "/v1/classify",
                classify.on_post,
                "Name an image among labels of your own.",
                ClassifyRequest,
                ClassifyAnswer,
                name="classify",
                example={"image": PICTURE, "labels": ["pizza", "red heart"]},
            ),
            embedding_route(
                "/v1/classify/image",
                classify.on_post_image,
                "Name an uploaded image among labels of your own.",
                ClassifyForm,
                ClassifyFileAnswer,
                name="classify_file",
                example={"labels": ["pizza", "red heart"]},
                is_form=True,
            ),
            embedding_route(
                "/evaluator/v1/evaluation/single",
                evaluate.on_post_single,
                "How well an image and a text belong together.",
                EvaluationRequest,
                Evaluation,
                name="evaluate",
                tag=_EVALUATION,
                example={"image": PICTURE, "text": "red heart"},
            ),
            embedding_route(
                "/evaluator/v1/evaluation/batch",
                evaluate.on_post_batch,
                "The same for many pairs, with errors in place.",
                EvaluationBatchRequest,
                EvaluationBatchAnswer,
                name="evaluate_batch",
                tag=_EVALUATION,
                example={"items": [{"image": PICTURE, "text": "red heart"}]},
            ),
        ),
    )
