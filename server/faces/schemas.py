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
OnError = Annotated[
    Literal["fail", "null"],
    Meta(description="`fail`: a bad item fails the request. `null`: its result is null, with its error beside it."),
]


class Usage(Struct, kw_only=True, omit_defaults=True):
    """Cost of the inputs. Images count in patches only."""

    prompt_tokens: Annotated[int, Meta(description="Real tokens, without padding.")]
    total_tokens: int
    image_patches: int = 0
