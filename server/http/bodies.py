"""A request's body, read within the limit. Raises Falcon's 400, 413 and 415, which `http/errors.py` renders."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any, TypeVar, get_origin, get_type_hints

import falcon
import msgspec
from falcon.media import MultipartFormHandler
from falcon.media.multipart import BodyPart

from siglip_edge.server.http import json
from siglip_edge.server.inputs.schemas import Upload

RequestT = TypeVar("RequestT")

MAX_PARTS = 1024
"""Parts per form. Falcon's default, 64, is less than the inputs that a request may have."""


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
    try:
        return frozenset(msgspec.json.decode(req.context.body, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()


def read_form(req: falcon.Request, kind: type[RequestT], max_bytes: int) -> RequestT:
    """The multipart form as a typed request: a field that is a list may be repeated."""
    if not (req.content_type or "").lower().startswith(falcon.MEDIA_MULTIPART):
        raise falcon.HTTPUnsupportedMediaType(description="Send a form with Content-Type: multipart/form-data.")
    body = read(req, max_bytes)
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = MAX_PARTS
    handler.parse_options.max_body_part_buffer_size = max_bytes
    values: dict[str, list[Any]] = defaultdict(list)
    for part in handler.deserialize(io.BytesIO(body), req.content_type, len(body)):
        if part.name:
            values[part.name].append(_value(part))
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


def _value(part: BodyPart) -> str | Upload:
    if part.filename is not None or part.name == "file":
        return Upload(part.filename or "", part.get_data())
    return part.get_text() or ""


def _by_field(values: dict[str, list[Any]], kind: type[Any]) -> dict[str, Any]:
    """Lists where the type has a list, else the last value given."""
    lists = {name for name, field_type in get_type_hints(kind).items() if get_origin(field_type) is list}
    return {name: given if name in lists else given[-1] for name, given in values.items()}


def _too_large(max_bytes: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"The body has more than {max_bytes} bytes.")
