"""A multipart form -> the values of its fields: texts, files, and JSON where a part says so."""

from __future__ import annotations

import quopri
from collections import defaultdict
from collections.abc import Callable, Iterator
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any, NamedTuple

import falcon
import msgspec
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from pybase64 import b64decode

from siglip_edge.runtime.errors import InvalidInput

MAX_PARTS = 1024
"""Parts per form."""
_MAX_HEADERS, _MAX_HEADER_BYTES = 32, 8192
"""Headers per part, and bytes per header."""
_MAX_BOUNDARY_CHARS = 70  # RFC 2046


class Upload(Struct, frozen=True):
    """A file of a form."""

    name: str
    data: bytes


class _Part(NamedTuple):
    segment: MultipartSegment
    body: bytes


def form_values(body: bytes, content_type: str, field_of: Callable[[str], str]) -> dict[str, list[Any]]:
    """Field -> its values, in order. Raises InvalidInput naming the field of a part that cannot be read.

    `field_of`: name of a part -> the field that it belongs to.
    """
    values: dict[str, list[Any]] = defaultdict(list)
    for part in _parts(body, _boundary(content_type)):
        name = _utf8(part.segment.name or "")
        if not name:
            raise InvalidInput("a part of the form has no name", code="invalid_form")
        if part.body or part.segment.filename != "":  # a file chooser that nobody used sends an empty part
            values[field_of(name)].append(_value(part, field_of(name)))
    return values


def _boundary(content_type: str) -> str:
    # Falcon's reader of the header takes `boundary=----=_Part_1` without quotation marks too.
    boundary = falcon.parse_header(content_type)[1].get("boundary", "").rstrip()
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise InvalidInput(
            "the Content-Type has no boundary; let your HTTP library write the header of a form", code="invalid_form"
        )
    return boundary


def _parts(body: bytes, boundary: str) -> Iterator[_Part]:
    # Latin-1 decodes every byte; `_utf8` reads names as what they are.
    parser = PushMultipartParser(
        boundary,
        max_segment_count=MAX_PARTS,
        max_header_count=_MAX_HEADERS,
        max_header_size=_MAX_HEADER_BYTES,
        header_charset="latin-1",
    )
    try:
        with parser:
            yield from _segments(parser, body)
    except MultipartError as error:
        raise InvalidInput(f"the form cannot be read: {error}", code="invalid_form") from None


def _segments(parser: PushMultipartParser, body: bytes) -> Iterator[_Part]:
    chunks: list[bytes] = []
    for event in parser.parse(body):
        if isinstance(event, MultipartSegment):
            segment, chunks = event, []
        elif event is None:
            yield _Part(segment, b"".join(chunks))
        else:
            chunks.append(bytes(event))


def _value(part: _Part, name: str) -> Any:
    """A file, a JSON value, or a text."""
    data = _decoded(part, name)
    filename, media_type = _filename(part.segment), part.segment.content_type or ""
    if filename is None and _is_json(media_type):
        return _json(data, name)
    if filename is not None or name == "file" or not _is_text(media_type):
        return Upload(filename or "", data)
    return _text(data, part.segment.charset or "utf-8", name)


def _decoded(part: _Part, name: str) -> bytes:
    """The part's bytes, without the encoding of mail that old libraries write."""
    encoding = str(part.segment.header("Content-Transfer-Encoding", "binary")).strip().lower()
    if encoding in {"binary", "7bit", "8bit"}:
        return part.body
    if encoding == "quoted-printable":
        return quopri.decodestring(part.body)
    if encoding != "base64":
        message = "the Content-Transfer-Encoding of a part is binary, base64 or quoted-printable"
        raise InvalidInput(message, param=name, code="invalid_form")
    try:
        return b64decode(b"".join(part.body.split()), validate=True)
    except ValueError:
        raise InvalidInput("the part's base64 cannot be decoded", param=name, code="invalid_form") from None


def _filename(segment: MultipartSegment) -> str | None:
    """By `filename*` (RFC 5987) first, then by `filename`. None: the part is no file."""
    disposition = str(segment.header("Content-Disposition", ""))
    if "filename*" in disposition:
        header = Message()
        header["Content-Disposition"] = disposition
        for name, value in header.get_params([], header="Content-Disposition"):
            if name == "filename" and isinstance(value, tuple):
                return collapse_rfc2231_value(value)
    return None if segment.filename is None else _utf8(segment.filename)


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _is_text(media_type: str) -> bool:
    return not media_type or media_type.startswith("text/")


def _json(data: bytes, name: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise InvalidInput("the part is not valid JSON in UTF-8", param=name, code="invalid_json") from None


def _text(data: bytes, charset: str, name: str) -> str:
    try:
        return data.decode(charset)
    except (ValueError, LookupError):
        message = f"the part is no text in {charset[:40]!r}; send UTF-8"
        raise InvalidInput(message, param=name, code="invalid_form") from None


def _utf8(latin: str) -> str:
    """What was decoded as Latin-1 and is UTF-8 mostly."""
    return _text_or_latin(latin.encode("latin-1", "replace"), "utf-8")


def _text_or_latin(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except (ValueError, LookupError):
        return data.decode("latin-1")
