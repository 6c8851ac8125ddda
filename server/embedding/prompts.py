"""Which prompt a request asks for: by the model's own name, or by the words of other APIs. Pure.

A prompt is a text that stands before an input, because the checkpoint was trained so. It changes the vector, not the
space: a query with one prompt is meant to be compared with documents that have another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from siglip_edge.runtime.artifacts.manifest import TextTower
from siglip_edge.runtime.errors import InvalidInput, UnsupportedInput
from siglip_edge.server.inputs.input_reader import AnyInput, Joint, Text, TokenIds

QUERY, DOCUMENT = "query", "document"

_NAMES = {
    QUERY: ("query", "search_query", "retrieval.query", "retrieval-query", "s2p_query"),
    DOCUMENT: ("document", "passage", "corpus", "search_document", "retrieval.passage", "retrieval-document"),
    "classification": ("classification",),
    "clustering": ("clustering",),
    "separation": ("separation", "clustering"),
    "text-matching": ("text-matching", "sts", "pairclassification", "s2s_query"),
}
"""Use of a vector -> names under which checkpoints have its prompt, the first that exists counts; capitals do not.

EmbeddingGemma has query, document, Classification, Clustering and STS; Qwen3-Embedding query and document; mxbai query
and passage; arctic-embed query; nomic query, passage, Classification and Clustering; jina-embeddings-v3 Jina's words;
stella s2p_query and s2s_query.
"""

_USES = {
    **dict.fromkeys(("query", "search_query", "retrieval.query"), QUERY),
    **dict.fromkeys(("document", "passage", "search_document", "retrieval.passage", "image"), DOCUMENT),
    **{use: use for use in ("classification", "clustering", "separation", "text-matching")},
}
"""Words of `input_type` (Cohere, Voyage, NVIDIA) and `task` (Jina) -> use of the vector."""


def requested(
    text: TextTower | None, prompt_name: str | None = None, input_type: str | None = None, task: str | None = None
) -> str | None:
    """The prompt that the fields of a request name; None: they name none, and the model's default counts.

    A model without prompts treats all inputs alike, so `input_type` and `task` have no effect there. Raises
    InvalidInput.
    """
    prompts = text.prompts if text else {}
    found: dict[str, str | None] = {}
    if prompt_name is not None:
        found["prompt_name"] = _named(prompt_name, prompts)
    for field, word in (("input_type", input_type), ("task", task)):
        if word is not None:
            found[field] = _meant(word, prompts, field)
    if len(set(found.values())) > 1:
        raise InvalidInput(f"{' and '.join(found)} ask for different prompts; send one of them", param=list(found)[-1])
    return next(iter(found.values()), None)


def for_use(text: TextTower | None, use: str) -> str | None:
    """The prompt of queries or of documents; None: the model has none for them, and its default counts.

    As `encode_query` and `encode_document` of sentence-transformers.
    """
    return _first(_NAMES[use], text.prompts) if text else None


def prompted(inputs: Sequence[AnyInput | InvalidInput], prompt: str | None) -> list[AnyInput | InvalidInput]:
    """The inputs with this prompt before each text; None: as they are.

    An image has no prompt. Token ids are replaced by the error that says so, unless the prompt is empty.
    """
    return list(inputs) if prompt is None else [_prompted(given, prompt) for given in inputs]


def ranking(
    text: TextTower | None,
    queries: Sequence[AnyInput | InvalidInput],
    candidates: Sequence[AnyInput | InvalidInput],
) -> list[AnyInput | InvalidInput]:
    """Queries with the model's prompt of queries, then candidates with its prompt of documents."""
    return [*prompted(queries, for_use(text, QUERY)), *prompted(candidates, for_use(text, DOCUMENT))]


def _prompted(given: AnyInput | InvalidInput, prompt: str) -> AnyInput | InvalidInput:
    if isinstance(given, Text):
        return replace(given, prompt=prompt)
    if isinstance(given, Joint):
        parts = (replace(part, prompt=prompt) if isinstance(part, Text) else part for part in given.parts)
        return replace(given, parts=tuple(parts))
    if isinstance(given, TokenIds) and prompt:
        message = "a prompt cannot be put before token ids: send the text, or the ids of prompt and text together"
        return UnsupportedInput(message, param=given.param)
    return given


def _named(name: str, prompts: Mapping[str, str]) -> str:
    if name not in prompts:
        raise InvalidInput(f"no prompt {name[:100]!r}; {_those(prompts)}", param="prompt_name", code="unknown_prompt")
    return prompts[name]


def _meant(word: str, prompts: Mapping[str, str], field: str) -> str | None:
    use = _USES.get(word.lower(), "")
    found = _first((*_NAMES.get(use, ()), word.lower()), prompts)
    # Queries and documents need no prompt of their own: of many models only queries have one.
    if found is None and any(prompts.values()) and use not in {QUERY, DOCUMENT}:
        message = f"no prompt for {word[:100]!r}; {_those(prompts)}. Send one of them as prompt_name"
        raise InvalidInput(message, param=field, code="unknown_prompt")
    return found


def _first(names: Iterable[str], prompts: Mapping[str, str]) -> str | None:
    """The prompt of the first name that exists, in any capitals."""
    by_name = {name.lower(): prompt for name, prompt in prompts.items()}
    return next((by_name[name] for name in names if name in by_name), None)


def _those(prompts: Mapping[str, str]) -> str:
    return f"this model has {', '.join(prompts)}" if prompts else "this model has no prompts"
