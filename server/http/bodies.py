"""A request's body, read within the limit. Raises Falcon's 400, 413 and 415, which `http/errors.py` renders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import falcon

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.server.http import json
from siglip_edge.server.http.forms import Upload, form_values

RequestT = TypeVar("RequestT")

_FILE_NAMES = {"file", "files", "image", "images"}
"""Names that clients give to the field of uploaded files."""


def read_json(req: falcon.Request, kind: type[RequestT], max_bytes: int) -> RequestT:
    """The JSON body as a typed request. Raises InvalidInput, HTTPUnsupportedMediaType or HTTPContentTooLarge."""
    if not _is_json(req):
        raise falcon.HTTPUnsupportedMediaType(description="Send JSON with Content-Type: application/json.")
    return json.parse(read(req, max_bytes), kind)


def peek_keys(req: falcon.Request, max_bytes: int) -> frozenset[str]:
    """Keys of the JSON object in the body; empty when the body is no JSON object. `read` returns the body afterwards.

    Raises the errors of `read`.
    """
    if not _is_json(req):
        return frozenset()
    req.context.body = read(req, max_bytes)
    return json.keys_of(req.context.body)


def read_form(req: falcon.Request, kind: type[RequestT], max_bytes: int) -> RequestT:
    """The multipart form as a typed request: a field that is a list may be repeated."""
    media_type = req.content_type or ""
    if not media_type.lower().startswith(falcon.MEDIA_MULTIPART):
        raise falcon.HTTPUnsupportedMediaType(description="Send a form with Content-Type: multipart/form-data.")
    values = form_values(read(req, max_bytes), media_type, _field_of(kind))
    return json.convert(_by_field(values, kind), kind)


def read(req: falcon.Request, max_bytes: int) -> bytes:
    """The whole body; memory never holds more than one byte beyond the limit."""
    if (peeked := req.context.pop("body", None)) is not None:  # kept until it is parsed, not longer
        return bytes(peeked)
    if req.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise falcon.HTTPUnsupportedMediaType(description="Send the body uncompressed: no Content-Encoding.")
    try:
        body = _read_within(req, max_bytes)
    except TimeoutError:
        raise falcon.HTTPError(falcon.HTTP_408, description="The body did not arrive in time.") from None
    except falcon.HTTPError:
        raise
    except Exception:  # noqa: BLE001 - the WSGI server's own types: a reset connection, a malformed chunk
        raise falcon.HTTPBadRequest(description="The body did not arrive whole.") from None
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def _is_json(req: falcon.Request) -> bool:
    """A body without a type is taken for JSON."""
    return not req.content_type or "json" in req.content_type.lower()


def _read_within(req: falcon.Request, max_bytes: int) -> bytes:
    """The body, or its first `max_bytes` + 1 bytes."""
    if req.content_length is not None:
        if req.content_length > max_bytes:
            raise _too_large(max_bytes)
        body = req.bounded_stream.read()
        if len(body) < req.content_length:
            raise falcon.HTTPBadRequest(description="The body did not arrive whole.")
        return body
    if req.env.get("wsgi.input_terminated"):  # chunked: gunicorn ends the stream where the last chunk does
        return bytes(req.stream.read(max_bytes + 1))
    return b""


def _field_of(kind: type[Any]) -> Callable[[str], str]:
    """Name of a part -> the request's field: `labels[]` is labels, `files` and `image` are file."""
    fields = get_type_hints(kind)

    def field_of(name: str) -> str:
        bare = name.removesuffix("[]")
        return "file" if bare in _FILE_NAMES and bare not in fields else bare

    return field_of


def _by_field(values: dict[str, list[Any]], kind: type[Any]) -> dict[str, Any]:
    """Lists where the type has a list, else the one value given.

    Raises InvalidInput for two values of such a field, and for a file under a name that nothing reads.
    """
    lists = {name: _is_list(field_type) for name, field_type in get_type_hints(kind).items()}
    for name, given in values.items():
        if name not in lists and any(isinstance(value, Upload) for value in given):
            message = "no field of this form takes a file under this name; send files as `file`"
            raise InvalidInput(message, param=name, code="unknown_file")
    return {name: _flat(given) if lists.get(name) else _single(name, given) for name, given in values.items()}


def _single(name: str, given: list[Any]) -> Any:
    if any(value != given[0] for value in given):
        raise InvalidInput("the form has two values of this field", param=name, code="invalid_value")
    return given[0]


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))


def _flat(given: list[Any]) -> list[Any]:
    """A JSON list among the values stands for its items."""
    return [item for value in given for item in (value if isinstance(value, list) else [value])]


def _too_large(max_bytes: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"The body has more than {max_bytes} bytes.")
