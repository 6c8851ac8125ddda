"""Requests and answers of llama.cpp's server."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from siglip_edge.server.faces.schemas import SCORE, Model, StringKind, Truncated, Usage
from siglip_edge.server.http.json import ITEMWISE
from siglip_edge.server.inputs.schemas import Input, InputObject

MEDIA_MARKER = "<__media__>"
"""Stands in a prompt where its image belongs."""


class Prompt(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text, an image, or both: their joint embedding, the normalised mean of the two."""

    prompt_string: Annotated[str, Meta(description=f"Holds `{MEDIA_MARKER}` once per image.")]
    multimodal_data: Annotated[list[str], Meta(description="The image in base64; at most one image.")] | None = None


Content = str | Prompt | list[str | Prompt | int | list[int]]

Normalize = Annotated[
    int,
    Meta(
        ge=-1,
        le=1000,
        description="-1 and 2: unit length (ours always is). 0: the largest component becomes 32760. "
        "1: absolute values sum to 1. Above 2: unit p-norm.",
    ),
]


class ContentRequest(Struct, kw_only=True):
    content: Annotated[Content, Meta(description="A text or an image, or a mixed list of them.")]
    model: Model = None
    modality: StringKind = None
    embd_normalize: Normalize = 2


class EmbeddingRequest(Struct, kw_only=True):
    content: Annotated[Content | None, Meta(description="A text or an image, or a mixed list of them.")] = None
    input: Annotated[Content | None, Meta(description="Another name for `content`.")] = None
    model: Model = None
    modality: StringKind = None
    embd_normalize: Normalize = 2


Vectors = Annotated[
    Any,
    Meta(
        description="A list with one row: the vector.",
        extra_json_schema={"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    ),
]


class PromptEmbedding(Struct, omit_defaults=True):
    index: int
    embedding: Vectors
    truncated: Truncated = False


TruncatedPair = Annotated[
    bool, Meta(description="true: the query or the document was cut to the model's length. Left out otherwise.")
]


class RerankRequest(Struct, kw_only=True):
    query: Annotated[Input, ITEMWISE, Meta(description="A text, an image as a data URI, or an object with one.")]
    documents: Annotated[
        list[Input] | None, ITEMWISE, Meta(description="The ranked texts or images, in the forms of `query`.")
    ] = None
    texts: Annotated[
        list[Input] | None, ITEMWISE, Meta(description="`documents` as TEI spells it; the answer is a list.")
    ] = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: Annotated[bool, Meta(description="With `documents`: repeat each in its result.")] = False
    return_text: Annotated[bool, Meta(description="With `texts`: repeat each in its result.")] = False
    model: Model = None
    modality: StringKind = None


class RerankResult(Struct, kw_only=True, omit_defaults=True):
    index: Annotated[int, Meta(description="Place in `documents`.")]
    relevance_score: Annotated[float, Meta(description=SCORE)]
    document: Annotated[InputObject | None, Meta(description="As sent, a string as `text`; an image is shortened.")] = (
        None
    )
    truncated: TruncatedPair = False


class RerankAnswer(Struct, kw_only=True):
    model: str
    object: Annotated[str, Meta(extra_json_schema={"const": "list"})]
    usage: Usage
    results: Annotated[list[RerankResult], Meta(description="Best first.")]


class RankedText(Struct, kw_only=True, omit_defaults=True):
    index: Annotated[int, Meta(description="Place in `texts`.")]
    score: Annotated[float, Meta(description=SCORE)]
    text: Annotated[Input | None, Meta(description="As sent; an image is shortened.")] = None
    truncated: TruncatedPair = False


class GenerationSettings(Struct):
    n_ctx: Annotated[int, Meta(description="Tokens of a text; a longer text is cut. 0: no texts.")]


class Modalities(Struct):
    vision: bool
    audio: bool


class Props(Struct, kw_only=True):
    """Facts that clients of llama.cpp's server read before they send an image."""

    default_generation_settings: GenerationSettings
    total_slots: Annotated[int, Meta(description="Runs per tower at the same time.")]
    model_path: Annotated[str, Meta(description="The model's name; the server does not tell its paths.")]
    modalities: Modalities
    media_marker: str
    chat_template: str
    chat_template_caps: dict[str, bool]
    build_info: str
    is_sleeping: bool


class LlamaCppErrorBody(Struct):
    code: int
    message: str
    type: str


class LlamaCppError(Struct):
    error: LlamaCppErrorBody
