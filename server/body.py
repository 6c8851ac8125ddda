"""A request's body, read within the limit. Raises Falcon's 413 and 415, which `server/errors.py` renders."""

from __future__ import annotations

from typing import TypeVar

import falcon

from server import schemas

RequestT = TypeVar("RequestT")


def read_json(req: falcon.Request, kind: type[RequestT], max_bytes: int) -> RequestT:
    """The JSON body as a typed request. Raises InvalidInput, HTTPUnsupportedMediaType or HTTPContentTooLarge."""
    if req.content_type and "json" not in req.content_type.lower():
        raise falcon.HTTPUnsupportedMediaType(description="Send JSON with Content-Type: application/json.")
    return schemas.parse(read(req, max_bytes), kind)


def read(req: falcon.Request, max_bytes: int) -> bytes:
    """All bytes of the body, never more than one beyond the limit of them in memory."""
    if req.get_header("Content-Encoding", default="identity").lower() != "identity":
        raise falcon.HTTPUnsupportedMediaType(description="Send the body uncompressed: no Content-Encoding.")
    length = req.content_length
    if length is None:  # chunked: gunicorn ends the stream where the last chunk does
        body = req.stream.read(max_bytes + 1) if req.env.get("wsgi.input_terminated") else b""
    elif length <= max_bytes:
        body = req.bounded_stream.read()
    else:
        raise _too_large(max_bytes)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> falcon.HTTPContentTooLarge:
    return falcon.HTTPContentTooLarge(description=f"The body has more than {max_bytes} bytes.")
