"""JSON <-> typed structs: what requests and answers look like. The only place that knows key names.

The same types parse requests, render answers and become `/openapi.json`.
"""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType
from numpy.typing import NDArray

from runtime.errors import InvalidInput

Modality = Literal["text", "image"]
EncodingFormat = Literal["float", "base64"]

RequestT = TypeVar("RequestT")

_PATH = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


class InputObject(Struct):
    """An input that says what it is; with both, their joint embedding: the normalised mean of the two."""

    text: str | None = None
    image: Annotated[str | None, Meta(description="Data URI, base64, or a URL where fetching is allowed.")] = None


Input = str | InputObject | list[int]
Inputs = str | InputObject | list[str | InputObject | int | list[int]]


class EmbeddingsRequest(Struct, kw_only=True):
    input: Annotated[Inputs, Meta(description="Texts and images, one or a list, mixed at will.")]
    model: str | None = None
    encoding_format: EncodingFormat | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    modality: Annotated[Modality | None, Meta(description="What plain strings are; guessed when absent.")] = None
    on_error: Annotated[
        Literal["fail", "null"], Meta(description="`null`: a bad input's embedding is null and its error is given.")
    ] = "fail"
    expect_space: Annotated[str | None, Meta(description="409 unless the model's space_id is this one.")] = None


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
    rows_per_second: Annotated[float | None, Meta(description="Measured; null before the first run.")]


class ModelHealth(Struct, kw_only=True):
    id: str
    status: str
    space_id: str
    provider: str
    precision: str
    intra_op_threads: int
    rows_per_batch: int
    plan: Annotated[str, Meta(description="Why it runs so.")]
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


def parse(body: bytes, kind: type[RequestT]) -> RequestT:
    """JSON -> a typed request; unknown keys are ignored. Raises InvalidInput naming the key that is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("the body is not valid JSON in UTF-8", code="invalid_json") from None


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """msgspec's sentence, its path as `param`: "Expected `int`, got `str`" at input[3]."""
    message = str(error)
    path = _PATH.search(message)
    missing = re.search(r"missing required field `(\w+)`", message)
    param = path[1] if path else missing[1] if missing else None
    return InvalidInput(_PATH.sub("", message), param=param or None, code="invalid_value")


def render(answer: Any) -> bytes:
    """A typed answer -> JSON."""
    return _encoder.encode(answer)


def vector(embedding: NDArray[np.float32], encoding: EncodingFormat | None) -> NDArray[np.float32] | str:
    """One embedding as it is rendered: numbers, or the base64 of little-endian float32."""
    if encoding == "base64":
        return base64.b64encode(embedding.astype("<f4", copy=False).tobytes()).decode()
    return embedding


def _encode_array(value: Any) -> msgspec.Raw:
    # orjson writes float32 straight from the array's memory: no Python list of floats is ever made.
    return msgspec.Raw(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


_encoder = msgspec.json.Encoder(enc_hook=_encode_array)
