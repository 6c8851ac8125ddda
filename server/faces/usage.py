"""The cost of a request's inputs, as answers of several faces report it."""

from __future__ import annotations

from collections.abc import Sequence

from siglip_edge.server.embedding.embedder import Embedding, Outcome
from siglip_edge.server.faces.schemas import Usage


def usage_of(outcomes: Sequence[Outcome]) -> Usage:
    """The sum over the inputs that were embedded."""
    good = [outcome for outcome in outcomes if isinstance(outcome, Embedding)]
    tokens = sum(embedding.tokens for embedding in good)
    patches = sum(embedding.patches for embedding in good)
    return Usage(prompt_tokens=tokens, total_tokens=tokens, image_patches=patches)
