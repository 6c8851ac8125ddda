"""llama.cpp's embeddings, reranking and properties. `/embeddings` is OpenAI's unless the body has `content`."""

from __future__ import annotations

from collections.abc import Collection

from siglip_edge.server.faces.llamacpp.embeddings import ContentEmbeddings
from siglip_edge.server.faces.llamacpp.errors import render_error
from siglip_edge.server.faces.llamacpp.props import PropsResource
from siglip_edge.server.faces.llamacpp.rerank import Rerank
from siglip_edge.server.faces.llamacpp.schemas import (
    MEDIA_MARKER,
    ContentRequest,
    EmbeddingRequest,
    LlamaCppError,
    PromptEmbedding,
    Props,
    RankedText,
    RerankAnswer,
    RerankRequest,
)
from siglip_edge.server.faces.route import PICTURE, Face, Route, Tag, embedding_route
from siglip_edge.server.faces.service import Service

_PROMPTS = [
    {"prompt_string": "a red heart"},
    {"prompt_string": f"{MEDIA_MARKER}\n", "multimodal_data": [PICTURE.partition(",")[2]]},
]

_RERANK = {
    "/rerank": "rerank",
    "/reranking": "reranking",
    "/v1/rerank": "rerank_v1",
    "/v1/reranking": "reranking_v1",
}
"""Path -> name."""


def llamacpp(service: Service) -> Face:
    embeddings = ContentEmbeddings(service)
    return Face(
        name="llamacpp",
        tag=Tag("llama.cpp", "The embedding and reranking API of llama.cpp's server."),
        render_error=render_error,
        error=LlamaCppError,
        routes=(
            embedding_route(
                "/embedding",
                embeddings.on_post_either,
                "Embed texts and images in prompts.",
                EmbeddingRequest,
                list[PromptEmbedding],
                name="embed_prompts",
                example={"content": _PROMPTS},
            ),
            embedding_route(
                "/embeddings",
                embeddings.on_post,
                "Embed texts and images in prompts, when the body has `content` and no `input`.",
                ContentRequest,
                list[PromptEmbedding],
                name="embed_content",
                example={"content": _PROMPTS},
                takes=_has_content,
            ),
            *(_rerank(path, name, service) for path, name in _RERANK.items()),
            Route(
                "GET",
                "/props",
                PropsResource(service).on_get,
                "Kinds of input of the model, and the marker of an image in a prompt.",
                name="get_props",
                query={"model": "Name of a served model; the default model when absent."},
                answer=Props,
                errors=(404,),
            ),
        ),
    )


def _has_content(keys: Collection[str]) -> bool:
    return "content" in keys and "input" not in keys


def _rerank(path: str, name: str, service: Service) -> Route:
    return embedding_route(
        path,
        Rerank(service).on_post,
        "Order documents, or texts, by how well they belong to a query.",
        RerankRequest,
        RerankAnswer | list[RankedText],
        name=name,
        example={"query": PICTURE, "documents": ["pizza", "red heart"], "top_n": 1},
    )
