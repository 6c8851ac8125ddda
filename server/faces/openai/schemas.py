"""OpenAI's requests and answers, with our own fields beside: images, spaces, errors in place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from siglip_edge.server.faces.schemas import (
    InputType,
    MaxPatches,
    Model,
    OnError,
    PromptName,
    Space,
    StringKind,
    Task,
    Truncated,
    Usage,
)
from siglip_edge.server.http.forms import Upload
from siglip_edge.server.http.json import ITEMWISE
from siglip_edge.server.inputs.schemas import InputObject, Inputs, Messages, Modality

EncodingFormat = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
Encodings = EncodingFormat | Annotated[list[EncodingFormat], Meta(min_length=1)]
_ENCODING = "One encoding, or several: then each vector is an object by name. `base64` applies to those beside it."
_EMBEDDING_TYPE = "Jina's name of `encoding_format`; decides where that is `float` or `base64`."
ErrorType = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]


class ErrorBody(Struct, kw_only=True):
    message: str
    type: ErrorType
    param: str | None = None
    code: str | None = None


class ErrorAnswer(Struct):
    error: ErrorBody


class EmbeddingsRequest(Struct, kw_only=True):
    input: Annotated[Inputs | UnsetType, Meta(description="A text or an image, or a mixed list of them.")] = UNSET
    messages: Annotated[
        Messages | UnsetType, Meta(description="In place of `input`: one message of a user, which gives one vector.")
    ] = UNSET
    model: Model = None
    encoding_format: Annotated[Encodings | None, Meta(description=_ENCODING)] = None
    embedding_type: Annotated[Encodings | None, Meta(description=_EMBEDDING_TYPE)] = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    max_patches: MaxPatches = None
    user: str | None = None
    modality: StringKind = None
    prompt_name: PromptName = None
    input_type: InputType = None
    task: Task = None
    on_error: OnError = "fail"
    expect_space: Space = None


class EmbeddingsForm(Struct, kw_only=True):
    file: Annotated[list[Upload], Meta(description="Image files.")] = []
    input: Annotated[
        list[str | InputObject],
        ITEMWISE,
        Meta(description="Embedded after the files: texts, images as strings, or objects in parts typed as JSON."),
    ] = []
    modality: StringKind = None
    prompt_name: PromptName = None
    input_type: InputType = None
    task: Task = None
    model: Model = None
    encoding_format: Annotated[list[EncodingFormat], Meta(description=_ENCODING)] = []
    embedding_type: Annotated[list[EncodingFormat], Meta(description=_EMBEDDING_TYPE)] = []
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    max_patches: MaxPatches = None
    on_error: OnError = "fail"
    expect_space: Space = None


_ENCODED = [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]

Vector = Annotated[
    Any,
    Meta(
        description="In the encoding of the answer; an object where there are several; null for an input that failed.",
        extra_json_schema={
            "anyOf": [
                *_ENCODED,
                {"type": "object", "additionalProperties": {"anyOf": _ENCODED}},
                {"type": "null"},
            ]
        },
    ),
]


class EmbeddingItem(Struct, kw_only=True, omit_defaults=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "embedding"})]
    index: int
    embedding: Vector
    truncated: Truncated = False
    error: ErrorBody | UnsetType = UNSET


class EmbeddingsAnswer(Struct, kw_only=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "list"})]
    data: list[EmbeddingItem]
    model: str
    usage: Usage
    encoding_format: str | list[str]


class ModelCard(Struct, kw_only=True):
    id: str
    object: Annotated[str, Meta(extra_json_schema={"const": "model"})]
    created: int
    owned_by: str
    family: Annotated[str, Meta(description="Kind of checkpoint that the model was exported from.")]
    dimensions: int
    modalities: list[Modality]
    precision: str
    space_id: str
    max_tokens: Annotated[int | None, Meta(description="Tokens of a text; a longer text is cut. null: no texts.")]
    image_size: Annotated[
        int | None, Meta(description="Side in pixels of the square that the model sees. null: no images, or no square.")
    ]
    default_patches: Annotated[
        int | None, Meta(description="NaFlex models: most patches of an image whose request has no `max_patches`.")
    ]
    max_patches: Annotated[
        int | None, Meta(description="The greatest `max_patches` of a request. null: the model takes none.")
    ]
    prompts: Annotated[list[str], Meta(description="Names for `prompt_name`.")]
    default_prompt: Annotated[str | None, Meta(description="The prompt of inputs that ask for none.")]
    scoring: Annotated[str, Meta(description="`sigmoid`, `softmax` or `cosine`: the meaning of a score.")]
    aliases: Annotated[list[str], Meta(description="Further names of the model in a request.")]


class ModelList(Struct, kw_only=True):
    object: Annotated[str, Meta(extra_json_schema={"const": "list"})]
    data: list[ModelCard]
