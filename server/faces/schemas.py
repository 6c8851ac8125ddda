"""What requests and answers look like: the only place that knows key names. `server/codec.py` reads and writes them.

The same types parse requests, render answers and become `/openapi.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Modality = Literal["text", "image"]
EncodingFormat = Literal["float", "base64"]


class InputObject(Struct):
    """An input that says what it is; with both, their joint embedding: the normalised mean of the two."""

    text: str | None = None
    image: Annotated[str | None, Meta(description="Data URI, base64, or a URL where fetching is allowed.")] = None


Input = str | InputObject | list[int]
Inputs = str | InputObject | list[str | InputObject | int | list[int]]


Model = Annotated[str | None, Meta(description="A served model's name; the default one when absent.")]
Space = Annotated[str | None, Meta(description="409 unless the model's space_id is this one.")]
OnError = Annotated[
    Literal["fail", "null"],
    Meta(description="`fail`: a bad item fails the request. `null`: its result is null, with its error beside it."),
]


class EmbeddingsRequest(Struct, kw_only=True):
    input: Annotated[Inputs, Meta(description="Texts and images, one or a list, mixed at will.")]
    model: Model = None
    encoding_format: EncodingFormat | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    modality: Annotated[Modality | None, Meta(description="What plain strings are; guessed when absent.")] = None
    on_error: OnError = "fail"
    expect_space: Space = None


class Upload(Struct, frozen=True):
    """A file of a form."""

    name: str
    data: bytes


class EmbeddingsForm(Struct, kw_only=True):
    file: Annotated[list[Upload], Meta(description="Image files.")] = []
    input: Annotated[list[str], Meta(description="Texts, or images as strings; embedded after the files.")] = []
    model: Model = None
    encoding_format: EncodingFormat | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    on_error: OnError = "fail"
    expect_space: Space = None


class RankRequest(Struct, kw_only=True):
    query: Annotated[str | InputObject | list[str | InputObject], Meta(description="One query or several.")]
    candidates: Annotated[list[str | InputObject], Meta(description="What is ranked, for each query.")]
    return_scores: bool = True
    top_n: Annotated[int, Meta(ge=1)] | None = None
    model: Model = None
    expect_space: Space = None


class Ranking(Struct, kw_only=True, omit_defaults=True):
    index: Annotated[int, Meta(description="Place in `candidates`.")]
    candidate: Annotated[str | InputObject, Meta(description="As sent; an image is shortened.")]
    score: Annotated[float, Meta(description="Calibrated probability that the two belong together.")] | UnsetType = (
        UNSET
    )
    similarity: Annotated[float, Meta(description="Cosine.")] | UnsetType = UNSET


class RankResult(Struct):
    query: str | InputObject
    rankings: Annotated[list[Ranking], Meta(description="Best first.")]


class ClassifyRequest(Struct, kw_only=True):
    image: Annotated[str, Meta(description="Data URI, base64, or a URL where fetching is allowed.")]
    labels: list[str]
    template: Annotated[str | None, Meta(description="`{}` is the label; the model's own when absent.")] = None
    multi_label: Annotated[bool, Meta(description="false: a softmax over the labels, so that scores sum to 1.")] = True
    model: Model = None
    expect_space: Space = None


class ClassifyForm(Struct, kw_only=True):
    file: list[Upload]
    labels: Annotated[list[str], Meta(description="`a,b`, or repeated.")]
    template: str | None = None
    multi_label: bool = True
    model: Model = None
    expect_space: Space = None


class Classification(Struct):
    label: str
    score: float
    similarity: float


class ClassifyAnswer(Struct):
    image: str
    classifications: Annotated[list[Classification], Meta(description="Best first.")]
    model: str


class ClassifyFileAnswer(Struct):
    filename: str
    classifications: Annotated[list[Classification], Meta(description="Best first.")]
    model: str


class EvaluationItem(Struct):
    image: str
    text: str


class EvaluationRequest(EvaluationItem, kw_only=True):
    model: Model = None
    expect_space: Space = None


class EvaluationBatchRequest(Struct, kw_only=True):
    items: list[EvaluationItem]
    on_error: OnError = "null"
    model: Model = None
    expect_space: Space = None


class Evaluation(Struct):
    score: float
    similarity: float
    model: str


class EvaluationResult(Struct, kw_only=True, omit_defaults=True):
    index: int
    score: float | None
    similarity: float | None
    error: ErrorBody | UnsetType = UNSET


class EvaluationBatchAnswer(Struct):
    results: list[EvaluationResult]
    model: str


Vector = Annotated[
    Any,
    Meta(
        description="Numbers, or the base64 of little-endian float32; null for an input that failed.",
        extra_json_schema={
            "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}, {"type": "null"}]
        },
    ),
]


class ErrorBody(Struct, kw_only=True):
    message: str
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    param: str | None = None
    code: str | None = None


class ErrorAnswer(Struct):
    error: ErrorBody


class EmbeddingItem(Struct, kw_only=True, omit_defaults=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "embedding"})]
    index: int
    embedding: Vector
    truncated: bool = False
    error: ErrorBody | UnsetType = UNSET


class Usage(Struct, kw_only=True, omit_defaults=True):
    prompt_tokens: int
    total_tokens: int
    image_patches: int = 0


class EmbeddingsAnswer(Struct, kw_only=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "list"})]
    data: list[EmbeddingItem]
    model: str
    usage: Usage


class RankAnswer(Struct):
    results: list[RankResult]
    model: str
    usage: Usage


class ModelCard(Struct, kw_only=True):
    id: str
    object: Annotated[str, Meta(extra_json_schema={"const": "model"})]
    created: int
    owned_by: str
    dimensions: int
    modalities: list[Modality]
    precision: str
    space_id: str


class ModelList(Struct, kw_only=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "list"})]
    data: list[ModelCard]


class Hardware(Struct, kw_only=True):
    cores: Annotated[int, Meta(description="Cores this server may use: affinity, cpuset and quota counted.")]
    logical_cpus: int
    quota: float | None
    memory_bytes: int
    resident_bytes: Annotated[int, Meta(description="Memory of this worker.")]
    isa: list[str]


class LaneHealth(Struct, kw_only=True):
    tower: str
    queue_size: Annotated[int, Meta(description="Rows waiting.")]
    busy: bool
    rows_per_batch: Annotated[int, Meta(description="Rows that may share a run.")]
    rows_per_second: Annotated[float | None, Meta(description="Measured; null before the first run.")]


class ModelHealth(Struct, kw_only=True):
    id: str
    status: str
    space_id: str
    provider: str
    precision: str
    intra_op_threads: int
    runs_at_once: int
    plan: Annotated[str, Meta(description="Why it runs so.")]
    refused: Annotated[list[str], Meta(description="What was to be preferred, and what is wrong with it here.")]
    lanes: list[LaneHealth]


class HealthAnswer(Struct, kw_only=True):
    """One worker's view: each process has its own queues."""

    status: str
    uptime_s: float
    models: list[ModelHealth]
    hardware: Hardware
    workers: Annotated[int, Meta(description="Processes.")]
    queue_size: Annotated[int, Meta(description="Rows waiting in all lanes.")]
    max_queue_size: Annotated[int, Meta(description="Rows that may wait in one lane.")]
    active_workers: Annotated[int, Meta(description="Batch threads at work now.")]
    total_workers: Annotated[int, Meta(description="Batch threads: one a tower and loaded model.")]
    batch_size: int
    batch_wait_time_ms: float
    cpu_count: int


class ProbeAnswer(Struct):
    status: str
