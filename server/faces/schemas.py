"""Fields of several faces. Other fields are in the `schemas.py` of each face, inputs in `inputs/schemas.py`.

The same types parse requests, render answers and become `/openapi.json`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from siglip_edge.server.inputs.schemas import Modality

Model = Annotated[str | None, Meta(description="Name of a served model; the default model when absent.")]
Space = Annotated[str | None, Meta(description="409 unless the model's space_id is this one.")]
StringKind = Annotated[
    Modality | None, Meta(description="The kind of every plain string; each is judged by its form when absent.")
]
SCORE = (
    "By the model: SigLIP's calibrated probability that the two belong together, CLIP's share among the candidates "
    "of the query (the shares sum to 1), a text model's cosine."
)
PAIR_SCORE = "SigLIP's calibrated probability that the two belong together; the cosine of other models."

Truncated = Annotated[
    bool, Meta(description="true: the text is longer than the model's length, and was cut. Left out otherwise.")
]

PromptName = Annotated[
    str | None, Meta(description="A prompt of the model (`prompts` in `/v1/models`), put before each text.")
]
InputType = Annotated[
    str | None,
    Meta(description="The prompt by Cohere's, Voyage's or NVIDIA's word: `search_query`, `query`, `passage`, …"),
]
Task = Annotated[str | None, Meta(description="The prompt by Jina's word: `retrieval.query`, `text-matching`, …")]
MaxPatches = Annotated[
    Annotated[int, Meta(ge=1)] | None,
    Meta(description="NaFlex models: most patches per image, fewer for speed, more for detail; 400 from other models."),
]
OnError = Annotated[
    Literal["fail", "null"],
    Meta(description="`fail`: a bad item fails the request. `null`: its result is null, with its error beside it."),
]


class Usage(Struct, kw_only=True, omit_defaults=True):
    """Cost of the inputs. Images count in patches only."""

    prompt_tokens: Annotated[int, Meta(description="Real tokens, without padding.")]
    total_tokens: int
    image_patches: int = 0
