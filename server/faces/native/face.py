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
from siglip_edge.server.faces.route import EMBEDDING_ERRORS, PICTURE, Face, Route
from siglip_edge.server.faces.service import Service


def native(service: Service) -> Face:
    classify, evaluate = Classify(service), Evaluate(service)
    return Face(
        name="native",
        summary="Ranking, classification, and scores of image-text pairs.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            Route(
                method="POST",
                path="/v1/rank",
                responder=Rank(service).on_post,
                summary="Order candidates by how well they belong to each query.",
                request=RankRequest,
                answer=RankAnswer,
                example={"query": PICTURE, "candidates": ["a cat", "a red dot"], "top_n": 1},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/v1/classify",
                responder=classify.on_post,
                summary="Name an image among labels of your own.",
                request=ClassifyRequest,
                answer=ClassifyAnswer,
                example={"image": PICTURE, "labels": ["cat", "dot"]},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/v1/classify/image",
                responder=classify.on_post_image,
                summary="Name an uploaded image among labels of your own.",
                request=ClassifyForm,
                is_form=True,
                answer=ClassifyFileAnswer,
                example={"labels": ["cat", "dot"]},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/evaluator/v1/evaluation/single",
                responder=evaluate.on_post_single,
                summary="How well an image and a text belong together.",
                request=EvaluationRequest,
                answer=Evaluation,
                example={"image": PICTURE, "text": "a red dot"},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/evaluator/v1/evaluation/batch",
                responder=evaluate.on_post_batch,
                summary="The same for many pairs, with errors in place.",
                request=EvaluationBatchRequest,
                answer=EvaluationBatchAnswer,
                example={"items": [{"image": PICTURE, "text": "a red dot"}]},
                errors=EMBEDDING_ERRORS,
            ),
        ),
    )
