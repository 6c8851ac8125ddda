"""`/openapi.json`, generated from the types of `server/schemas.py` and one table of operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from siglip_edge.server.faces import schemas
from siglip_edge.server.faces.schemas import (
    ClassifyAnswer,
    ClassifyFileAnswer,
    ClassifyForm,
    ClassifyRequest,
    EmbeddingsAnswer,
    EmbeddingsForm,
    EmbeddingsRequest,
    ErrorAnswer,
    Evaluation,
    EvaluationBatchAnswer,
    EvaluationBatchRequest,
    EvaluationRequest,
    HealthAnswer,
    ModelCard,
    ModelList,
    ProbeAnswer,
    RankAnswer,
    RankRequest,
)

_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_FORM = "multipart/form-data"

_DOT = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR42mO8IyLCwMDAxMDAwMDAAAANIgEIUl86SgAAAABJRU5ErkJggg=="
)
"""A picture of four pixels, for examples that work."""

_EMBEDDING = (400, 401, 404, 408, 409, 413, 415, 429, 500, 503, 504)
"""What any request that embeds may be answered with beside 200."""

_MEANING = {
    200: "The answer.",
    400: "The input is wrong; `param` names the field.",
    401: "No valid API key.",
    404: "No such model.",
    408: "The body did not arrive in time.",
    409: "The model's embedding space is not the one expected.",
    413: "The body is too large.",
    415: "Not the media type of this route.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "A failure of the server; its log has the cause under the request id.",
    503: "Loading, draining or stalled; `Retry-After` says when to come back.",
    504: "The request's time was up.",
}

_HEADERS = {
    "X-Request-ID": "The request's id: the caller's own, or a new one.",
    "X-Embedding-Space": "What makes two vectors comparable: the space_id of the model that answered.",
    "Server-Timing": "Milliseconds by stage.",
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route. `answer` None: not JSON, see `media`."""

    method: str
    path: str
    summary: str
    answer: Any = None
    media: str = _JSON
    request: Any = None
    is_form: bool = False
    example: dict[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = (401, 500)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/embeddings",
        summary="Embed texts and images.",
        request=EmbeddingsRequest,
        answer=EmbeddingsAnswer,
        example={"input": ["a cat on a sofa", _DOT]},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/embeddings",
        summary="The same, for clients whose base URL has no /v1.",
        request=EmbeddingsRequest,
        answer=EmbeddingsAnswer,
        example={"input": "a cat on a sofa", "encoding_format": "base64"},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/v1/embeddings/image",
        summary="Embed uploaded images.",
        request=EmbeddingsForm,
        is_form=True,
        answer=EmbeddingsAnswer,
        example={"input": ["a cat on a sofa"]},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/v1/rank",
        summary="Order candidates by how well they belong to each query.",
        request=RankRequest,
        answer=RankAnswer,
        example={"query": _DOT, "candidates": ["a cat", "a red dot"], "top_n": 1},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/v1/classify",
        summary="Name an image among labels of your own.",
        request=ClassifyRequest,
        answer=ClassifyAnswer,
        example={"image": _DOT, "labels": ["cat", "dot"]},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/v1/classify/image",
        summary="Name an uploaded image among labels of your own.",
        request=ClassifyForm,
        is_form=True,
        answer=ClassifyFileAnswer,
        example={"labels": ["cat", "dot"]},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/evaluator/v1/evaluation/single",
        summary="How well an image and a text belong together.",
        request=EvaluationRequest,
        answer=Evaluation,
        example={"image": _DOT, "text": "a red dot"},
        errors=_EMBEDDING,
    ),
    Operation(
        method="POST",
        path="/evaluator/v1/evaluation/batch",
        summary="The same for many pairs, with errors in place.",
        request=EvaluationBatchRequest,
        answer=EvaluationBatchAnswer,
        example={"items": [{"image": _DOT, "text": "a red dot"}]},
        errors=_EMBEDDING,
    ),
    Operation(method="GET", path="/v1/models", summary="The served models.", answer=ModelList),
    Operation(
        method="GET", path="/v1/models/{name}", summary="One served model.", answer=ModelCard, errors=(401, 404, 500)
    ),
    Operation(method="GET", path="/health", summary="State, plan and measured rates.", answer=HealthAnswer),
    Operation(method="GET", path="/health/live", summary="The process answers.", answer=ProbeAnswer),
    Operation(
        method="GET",
        path="/health/ready",
        summary="The default model is loaded and finishes its work.",
        answer=ProbeAnswer,
        errors=(500, 503),
    ),
    Operation(method="GET", path="/metrics", summary="Prometheus metrics of all workers.", media="text/plain"),
    Operation(method="GET", path="/openapi.json", summary="This document.", answer=dict),
    Operation(method="GET", path="/docs", summary="This document as an interactive page.", media="text/html"),
)


def document(paths: Iterable[str], model: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations on these paths. `model`: a served one's name, for the example."""
    served = set(paths)
    operations = [operation for operation in OPERATIONS if operation.path in served]
    routes: dict[str, dict[str, Any]] = {}
    for operation in operations:
        routes.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "siglip-edge",
            "version": "1",
            "description": "Images and texts in, vectors of one shared space out.",
        },
        "paths": routes,
        "components": {
            "schemas": _components(operations),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(operation: Operation, model: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method} {operation.path}",
        "responses": {
            "200": _answer(200, operation.media, _reference(operation.answer)),
            **{str(status): _answer(status, _JSON, _reference(ErrorAnswer)) for status in operation.errors},
        },
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {_FORM if operation.is_form else _JSON: _body(operation)},
        }
    if "{name}" in operation.path:
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "example": model}
        described["parameters"] = [name]
    return described


def _body(operation: Operation) -> dict[str, Any]:
    body = {"schema": _reference(operation.request)}
    return {**body, "example": operation.example} if operation.example else body


def _answer(status: int, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    names = {**_HEADERS, "Retry-After": "Whole seconds."} if status in {429, 503} else _HEADERS
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}
    return {"description": _MEANING[status], "headers": headers, "content": {media: {"schema": schema}}}


def _reference(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"type": "string"}
    return {"type": "object"} if kind is dict else {"$ref": _REF.format(name=kind.__name__)}


def _components(operations: Iterable[Operation]) -> dict[str, Any]:
    kinds = {
        kind for operation in operations for kind in (operation.request, operation.answer) if kind not in {None, dict}
    }
    _, components = msgspec.json.schema_components([*kinds, ErrorAnswer], ref_template=_REF)
    components[schemas.Upload.__name__] = {"type": "string", "format": "binary"}
    return dict(sorted(components.items()))
