"""JSON <-> typed requests and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import msgspec
import orjson

from siglip_edge.runtime.errors import InvalidInput

RequestT = TypeVar("RequestT")

ITEMWISE = msgspec.Meta(extra={"itemwise": True})
"""Marks a field whose items are documented by its type and converted one by one with `convert_item`.

So a bad item is an error of its own, and the neighbours live. Parsing leaves the field as the JSON has it.
"""

_PATH = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_EXPECTED = re.compile(r"Expected `(\w+)`, got `str`")
_IN_WORDS = {"int": "no whole number", "float": "no number", "bool": "neither true nor false"}
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
"""The escape of a surrogate. msgspec refuses a body in which one stands alone, and cannot say where."""


def parse(body: bytes, kind: type[RequestT]) -> RequestT:
    """JSON -> a typed request; unknown keys are ignored. Raises InvalidInput naming the key that is wrong."""
    loose = _loose(kind)
    try:
        given = _decode(body, loose)
    except (ValueError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise _invalid(error, kind) from None
        raise InvalidInput("the body is not valid JSON in UTF-8", code="invalid_json") from None
    return _strict(given, kind)


def keys_of(body: bytes) -> frozenset[str]:
    """Keys of a JSON object; empty for anything else."""
    try:
        return frozenset(_decode(body, dict[str, msgspec.Raw]))
    except (ValueError, RecursionError):
        return frozenset()


def convert(values: dict[str, Any], kind: type[RequestT]) -> RequestT:
    """Form values -> a typed request; numbers and booleans may be text. Raises InvalidInput naming the field."""
    loose = _loose(kind)
    try:
        given = msgspec.convert(values, loose, strict=False)
    except ValueError as error:
        raise _unread(_invalid(error, kind), values) from None
    return _strict(given, kind)


def _unread(error: InvalidInput, values: dict[str, Any]) -> InvalidInput:
    """The same error; where a text of the form is no number, the text itself is named."""
    expected, given = _EXPECTED.match(str(error)), values.get(error.param or "")
    if expected is None or not isinstance(given, str) or expected[1] not in _IN_WORDS:
        return error
    return InvalidInput(f"{given[:100]!r} is {_IN_WORDS[expected[1]]}", param=error.param, code="invalid_value")


def convert_item(value: Any, kind: type[RequestT], param: str) -> RequestT:
    """A part of a JSON body -> a typed value. Raises InvalidInput whose `param` begins with `param`."""
    try:
        return msgspec.convert(value, kind)
    except ValueError as error:
        raise _invalid(error, kind, param) from None


def _decode(body: bytes, kind: Any) -> Any:
    """Raises ValueError (msgspec's errors are such) or RecursionError."""
    body = _utf8(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not _HALF_CHARACTER.search(body):
            raise
    return msgspec.convert(json.loads(body, parse_constant=_no_constant), kind)


def _utf8(body: bytes) -> bytes:
    """Without a byte order mark; UTF-16 and UTF-32 become UTF-8. Raises UnicodeDecodeError."""
    encoding = json.detect_encoding(body)
    return body if encoding == "utf-8" else body.decode(encoding).encode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _without_rules(kind: Any) -> type[msgspec.Struct]:
    """The type without the rules of its ITEMWISE fields. Optional fields may be null, as clients send unset ones."""
    return msgspec.defstruct(
        kind.__name__, [_loose_field(field) for field in msgspec.structs.fields(kind)], kw_only=True
    )


_loose: Callable[[Any], type[msgspec.Struct]] = cache(_without_rules)


def _names_of_required(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(kind) if field.required)


_required: Callable[[Any], frozenset[str]] = cache(_names_of_required)


def _strict(given: msgspec.Struct, kind: type[RequestT]) -> RequestT:
    """-> the type that was asked for, with the values of its `_loose` form. An optional null is absent."""
    values = {name: getattr(given, name) for name in given.__struct_fields__}
    return kind(**{name: value for name, value in values.items() if value is not None or name in _required(kind)})


def _loose_field(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    facts: dict[str, Any] = {"default": field.default, "default_factory": field.default_factory}
    kind = Any if _is_itemwise(field.type) else field.type if field.required else field.type | None
    return field.name, kind, msgspec.field(name=field.encode_name, **facts)


def _is_itemwise(annotation: Any) -> bool:
    return ITEMWISE in getattr(annotation, "__metadata__", ()) or any(map(_is_itemwise, get_args(annotation)))


def _invalid(error: Exception, kind: type, at: str = "") -> InvalidInput:
    """msgspec's sentence (Expected `int`, got `str`), its path as `param` (input[3]), and what is allowed."""
    message = str(error) if isinstance(error, msgspec.ValidationError) else "a word has half of a character"
    found = _PATH.search(message)
    sentence, path = (message[: found.start()], found[1]) if found else (message, "")
    sentence = sentence.replace(" | null`, got", "`, got")  # an optional null is absent
    missing = re.search(r"missing required field `(\w+)`", sentence)
    if sentence.startswith("Invalid enum value"):
        sentence += f"; allowed: {', '.join(_allowed_words(kind, path))}"
    if unknown := _UNKNOWN.fullmatch(sentence):
        sentence = f"unknown key `{unknown[1]}`; allowed: {', '.join(_allowed_keys(kind, path))}"
    last = unknown[1] if unknown else missing[1] if missing else ""
    return InvalidInput(sentence, param=_joined(at, path, last) or None, code="invalid_value")


def _joined(*names: str) -> str:
    """`input[1]`, `content[0].type` -> `input[1].content[0].type`."""
    return ".".join(name for name in names if name).replace(".[", "[")


def _allowed_words(kind: type, path: str) -> list[str]:
    *folders, name = _names(path) or [""]
    found = [word for field in _fields(kind, folders) if field.name == name for word in _words(field.type)]
    return list(dict.fromkeys(found))


def _allowed_keys(kind: type, path: str) -> list[str]:
    return list(dict.fromkeys(field.encode_name for field in _fields(kind, _names(path))))


def _names(path: str) -> list[str]:
    """`content[0].type` -> content, type."""
    return re.findall(r"[^.\[\]]+(?=[.\[]|$)", path)


def _fields(kind: Any, names: Sequence[str]) -> list[msgspec.structs.FieldInfo]:
    """The fields of every Struct that the path `names` leads to, from `kind` on."""
    fields = [field for struct in _structs(kind) for field in msgspec.structs.fields(struct)]
    for name in names:
        inner = [struct for field in fields if field.name == name for struct in _structs(field.type)]
        fields = [field for struct in inner for field in msgspec.structs.fields(struct)]
    return fields


def _structs(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for part in get_args(annotation):
        yield from _structs(part)


def _words(annotation: Any) -> list[str]:
    """The words of a Literal inside the annotation."""
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]


def render(answer: Any) -> bytes:
    """A typed answer -> JSON."""
    try:
        return _encoder.encode(answer)
    except UnicodeEncodeError:  # an error that repeats half of a character
        return json.dumps(msgspec.to_builtins(answer), ensure_ascii=False).encode(errors="replace")


def _encode_array(value: Any) -> msgspec.Raw:
    # orjson writes float32 straight from the array's memory: no Python list of floats is ever made.
    return msgspec.Raw(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


_encoder = msgspec.json.Encoder(enc_hook=_encode_array)
