"""JSON <-> typed requests and answers."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
import orjson

from siglip_edge.runtime.errors import InvalidInput

RequestT = TypeVar("RequestT")

_PATH = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


def parse(body: bytes, kind: type[RequestT]) -> RequestT:
    """JSON -> a typed request; unknown keys are ignored. Raises InvalidInput naming the key that is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error, kind) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("the body is not valid JSON in UTF-8", code="invalid_json") from None


def convert(values: dict[str, Any], kind: type[RequestT]) -> RequestT:
    """Form values -> a typed request; numbers and booleans may be text. Raises InvalidInput naming the field."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error, kind) from None


def _invalid(error: msgspec.ValidationError, kind: type) -> InvalidInput:
    """msgspec's sentence (Expected `int`, got `str`), its path as `param` (input[3]), and an enum's allowed words."""
    message = str(error)
    path = _PATH.search(message)
    missing = re.search(r"missing required field `(\w+)`", message)
    param = path[1] if path else missing[1] if missing else None
    sentence = _PATH.sub("", message)
    if sentence.startswith("Invalid enum value"):
        name = (param or "").partition("[")[0]
        words = [word for field in msgspec.structs.fields(kind) if field.name == name for word in _words(field.type)]
        sentence += f"; allowed: {', '.join(dict.fromkeys(words))}"
    return InvalidInput(sentence, param=param or None, code="invalid_value")


def _words(annotation: Any) -> list[str]:
    """The words of a Literal inside the annotation."""
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]


def render(answer: Any) -> bytes:
    """A typed answer -> JSON."""
    return _encoder.encode(answer)


def _encode_array(value: Any) -> msgspec.Raw:
    # orjson writes float32 straight from the array's memory: no Python list of floats is ever made.
    return msgspec.Raw(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


_encoder = msgspec.json.Encoder(enc_hook=_encode_array)
