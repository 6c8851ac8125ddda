"""OpenAI's embeddings and models, as its clients know them."""

from __future__ import annotations

from siglip_edge.server.faces.openai.embeddings import Embeddings
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.models import ModelCollection
from siglip_edge.server.faces.openai.schemas import (
    EmbeddingsAnswer,
    EmbeddingsForm,
    EmbeddingsRequest,
    ErrorAnswer,
    ModelCard,
    ModelList,
)
from siglip_edge.server.faces.route import EMBEDDING_ERRORS, PICTURE, Face, Route
from siglip_edge.server.faces.service import Service


def openai(service: Service) -> Face:
    embeddings, models = Embeddings(service), ModelCollection(service.models)
    return Face(
        name="openai",
        summary="OpenAI's API, for images too.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            Route(
                method="POST",
                path="/v1/embeddings",
                responder=embeddings.on_post,
                summary="Embed texts and images.",
                request=EmbeddingsRequest,
                answer=EmbeddingsAnswer,
                example={"input": ["a cat on a sofa", PICTURE]},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/embeddings",
                responder=embeddings.on_post,
                summary="Embed texts and images, for clients whose base URL has no /v1.",
                request=EmbeddingsRequest,
                answer=EmbeddingsAnswer,
                example={"input": "a cat on a sofa", "encoding_format": "base64"},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="POST",
                path="/v1/embeddings/image",
                responder=embeddings.on_post_image,
                summary="Embed uploaded images.",
                request=EmbeddingsForm,
                is_form=True,
                answer=EmbeddingsAnswer,
                example={"input": ["a cat on a sofa"]},
                errors=EMBEDDING_ERRORS,
            ),
            Route(
                method="GET",
                path="/v1/models",
                responder=models.on_get,
                summary="The served models.",
                answer=ModelList,
            ),
            Route(
                method="GET",
                path="/v1/models/{name}",
                responder=models.on_get_one,
                summary="One served model.",
                answer=ModelCard,
                errors=(404,),
            ),
        ),
    )
