"""Requests and answers of ranking, classification and evaluation."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from siglip_edge.server.faces.openai.schemas import ErrorBody
from siglip_edge.server.faces.schemas import (
    PAIR_SCORE,
    SCORE,
    MaxPatches,
    Model,
    OnError,
    Space,
    StringKind,
    Truncated,
    Usage,
)
from siglip_edge.server.http.forms import Upload
from siglip_edge.server.http.json import ITEMWISE
from siglip_edge.server.inputs.schemas import Input, InputObject, Inputs

Image = Annotated[
    str | InputObject,
    ITEMWISE,
    Meta(description="Data URI, base64, a URL where fetching is allowed, or an object with one of these."),
]

MultiLabel = Annotated[
    bool | None,
    Meta(
        description="true: each label has a score of its own, and several may fit. false: a softmax over the labels, "
        "so that scores sum to 1. Absent: as the model was trained; SigLIP true, CLIP false. CLIP has no true."
    ),
]


class RankRequest(Struct, kw_only=True):
    query: Annotated[Inputs, Meta(description="A query, or a list of them.")]
    candidates: Annotated[list[Input], ITEMWISE, Meta(description="Inputs that are ranked for each query.")]
    return_scores: bool = True
    top_n: Annotated[int, Meta(ge=1)] | None = None
    max_patches: MaxPatches = None
    model: Model = None
    modality: StringKind = None
    expect_space: Space = None


class Ranking(Struct, kw_only=True, omit_defaults=True):
    index: Annotated[int, Meta(description="Place in `candidates`.")]
    candidate: Annotated[Input, Meta(description="As sent; an image is shortened.")]
    score: Annotated[float, Meta(description=SCORE)] | UnsetType = UNSET
    similarity: Annotated[float, Meta(description="Cosine.")] | UnsetType = UNSET
    truncated: Annotated[Truncated, Meta(description="true: the candidate's text was cut. Left out otherwise.")] = False


class RankResult(Struct, omit_defaults=True):
    query: Input
    rankings: Annotated[list[Ranking], Meta(description="Best first.")]
    truncated: Annotated[Truncated, Meta(description="true: the query's text was cut. Left out otherwise.")] = False


class RankAnswer(Struct):
    results: list[RankResult]
    model: str
    usage: Usage


class ClassifyRequest(Struct, kw_only=True):
    image: Image
    labels: list[str]
    template: Annotated[str | None, Meta(description="`{}` is the label; the model's own when absent.")] = None
    multi_label: MultiLabel = None
    max_patches: MaxPatches = None
    model: Model = None
    expect_space: Space = None


class ClassifyForm(Struct, kw_only=True):
    file: Annotated[list[Upload], Meta(description="One image file.", extra_json_schema={"minItems": 1, "maxItems": 1})]
    labels: Annotated[list[str], Meta(description="`a,b`, or repeated.")]
    template: str | None = None
    multi_label: MultiLabel = None
    max_patches: MaxPatches = None
    model: Model = None
    expect_space: Space = None


class Classification(Struct, omit_defaults=True):
    label: str
    score: Annotated[float, Meta(description="As in `/v1/rank`; by `multi_label`.")]
    similarity: float
    truncated: Truncated = False


class ClassifyAnswer(Struct):
    image: Annotated[str | InputObject, Meta(description="As sent, shortened.")]
    classifications: Annotated[list[Classification], Meta(description="Best first.")]
    model: str


class ClassifyFileAnswer(Struct):
    filename: str
    classifications: Annotated[list[Classification], Meta(description="Best first.")]
    model: str


class EvaluationItem(Struct, forbid_unknown_fields=True):
    image: Image
    text: str


class EvaluationRequest(Struct, kw_only=True):
    image: Image
    text: str
    max_patches: MaxPatches = None
    model: Model = None
    expect_space: Space = None


class EvaluationBatchRequest(Struct, kw_only=True):
    items: Annotated[list[EvaluationItem], ITEMWISE]
    on_error: OnError = "null"
    max_patches: MaxPatches = None
    model: Model = None
    expect_space: Space = None


class Evaluation(Struct, omit_defaults=True):
    score: Annotated[float, Meta(description=PAIR_SCORE)]
    similarity: float
    model: str
    truncated: Truncated = False


class EvaluationResult(Struct, kw_only=True, omit_defaults=True):
    index: int
    score: Annotated[float | None, Meta(description=PAIR_SCORE)]
    similarity: float | None
    truncated: Truncated = False
    error: ErrorBody | UnsetType = UNSET


class EvaluationBatchAnswer(Struct):
    results: list[EvaluationResult]
    model: str
