"""Requests and answers of Vision-Language Similarity Service, with the calibrated score beside its CLIP score."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from siglip_edge.server.faces.schemas import PAIR_SCORE, Truncated
from siglip_edge.server.http.json import ITEMWISE


class SimilarityRequest(Struct, kw_only=True):
    image_input: Annotated[str, Meta(description="Data URI, base64, a URL or a path where the operator allows it.")]
    text_prompt: str
    model_config_name: Annotated[
        str | None, Meta(description="Name of a served model; the default model when absent.")
    ] = None


class SimilarityBatchRequest(Struct, kw_only=True):
    evaluations: Annotated[list[SimilarityRequest], ITEMWISE]
    batch_size: (
        Annotated[int, Meta(ge=1, le=128, description="Without effect: the server chooses the rows per run.")] | None
    ) = None
    show_progress: Annotated[bool | None, Meta(description="Without effect.")] = None


class SimilarityAnswer(Struct, kw_only=True, omit_defaults=True):
    image_input: Annotated[str, Meta(description="As sent; an image is shortened.")]
    text_prompt: str
    clip_score: Annotated[float | None, Meta(description="100 · max(cosine, 0); null for a pair that failed.")]
    processing_time_ms: Annotated[
        float, Meta(description="Milliseconds of the request; in a batch, divided by its pairs.")
    ]
    model_used: Annotated[str, Meta(description="Empty for a pair that could not be read.")]
    score: Annotated[float | None, Meta(description=PAIR_SCORE)]
    similarity: Annotated[float | None, Meta(description="Cosine.")]
    truncated: Truncated = False
    error: Annotated[str | UnsetType, Meta(description="Names the field that is wrong.")] = UNSET


class SimilarityBatchAnswer(Struct, kw_only=True):
    results: Annotated[list[SimilarityAnswer], Meta(description="One per pair, in order.")]
    total_processed: int
    total_successful: int
    total_failed: int
    total_processing_time_ms: float


class SimilarityHealth(Struct, kw_only=True):
    status: Annotated[str, Meta(description="`available`.")]
    service: str
    model_loaded: bool
    available_configs: Annotated[list[str], Meta(description="Names of the served models.")]
