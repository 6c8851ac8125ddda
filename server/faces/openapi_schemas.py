"""The types that parse requests and render answers, as schemas of the OpenAPI document.

Generators of clients and Swagger UI read a schema more strictly than JSON Schema does: to generators, a field with a
default is always there; Swagger UI fills a form with the default, null too. So no schema has a default, `required`
lists the fields that must be sent or that every answer has, and a form has neither null nor objects.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, Struct, inspect

from siglip_edge.server.faces.route import Route
from siglip_edge.server.http.forms import Upload

Object = dict[str, Any]

_REF = "#/components/schemas/{name}"
_NULL: Object = {"type": "null"}
_FILE: Object = {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class Schemas:
    of: Mapping[Any, Object]
    """Type of a request, an answer or an error -> its schema."""
    components: Object
    """Name -> the schema that other schemas refer to."""

    def repeated(self, form: Any) -> list[str]:
        """The fields of a form that are lists of texts: a part per item."""
        fields = self.components[_name(self.of[form]["$ref"])]["properties"]
        return [name for name, field in fields.items() if field.get("type") == "array" and field["items"] != _FILE]


def schemas(routes: Collection[Route], errors: Iterable[Any]) -> Schemas:
    """The schemas of the routes' requests and answers, and of these errors."""
    sent = [route.request for route in routes if route.request is not None]
    kinds = list(dict.fromkeys([*sent, *(route.answer for route in routes), *errors]))
    structs = _structs([*kinds, Upload])
    found, components = msgspec.json.schema_components([*kinds, *structs], ref_template=_REF)
    references = {kind: schema["$ref"] for kind, schema in zip(structs, found[len(kinds) :], strict=True)}
    requests, forms = _structs(sent), {route.request: route.example for route in routes if route.is_form}
    for kind, reference in references.items():
        component = components[_name(reference)]
        component["required"] = _must_be_sent(kind) if kind in requests else _always_answered(kind)
        for name, field in component["properties"].items():
            _tell_default(field)
            if kind in forms:
                _restate_for_form(field, references[Upload])
            elif kind in sent and name not in component["required"]:
                _allow_null(field)
            if name in forms.get(kind, ()):
                field["examples"] = [forms[kind][name]]
    del components[_name(references[Upload])]
    return Schemas(
        {kind: _plain(schema, references[Upload]) for kind, schema in zip(kinds, found, strict=False)},
        {name: _plain(components[name], references[Upload]) for name in sorted(components)},
    )


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _structs(kinds: Iterable[Any]) -> list[type[Struct]]:
    """The structs among these types and inside them, at any depth."""
    return list(_walk(inspect.multi_type_info(kinds), set()))


def _walk(node: Any, seen: set[type[Struct]]) -> Iterator[type[Struct]]:
    if isinstance(node, inspect.StructType):
        if node.cls in seen:
            return
        seen.add(node.cls)
        yield node.cls
    if isinstance(node, inspect.Type | inspect.Field):
        node = [getattr(node, name) for name in node.__struct_fields__]
    if isinstance(node, list | tuple):
        for part in node:
            yield from _walk(part, seen)


def _must_be_sent(kind: type[Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.required]


def _always_answered(kind: type[Struct]) -> list[str]:
    """An answer leaves out what is unset, and defaults if its type says so."""
    if kind.__struct_config__.omit_defaults:
        return _must_be_sent(kind)
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.default is not UNSET]


def _tell_default(field: Object) -> None:
    if field.get("default") not in (None, []):
        words = [field["description"]] if "description" in field else []
        field["description"] = " ".join([*words, f"When absent: `{json.dumps(field['default'])}`."])


def _allow_null(field: Object) -> None:
    """Null counts as absent (server.http.json)."""
    if _NULL not in field.get("anyOf", ()):
        choice = {key: field.pop(key) for key in [*field] if key not in {"description", "default", "examples"}}
        field["anyOf"] = [*choice.get("anyOf", [choice]), _NULL]


def _restate_for_form(field: Object, upload: str) -> None:
    """A part of a form is a text or a file: no null, no object. A list of one is its item: fields are repeated."""
    for schema in (field, field.get("items", {})):
        if "anyOf" in schema:
            schema["anyOf"] = [choice for choice in schema["anyOf"] if _fits_part(choice, upload)]
    if field.get("maxItems") == 1:
        field |= field.pop("items")
        del field["minItems"], field["maxItems"]


def _fits_part(schema: Object, upload: str) -> bool:
    return schema != _NULL and schema.get("$ref") in {None, upload}


def _plain(schema: Object, upload: str) -> Object:
    """The schema without defaults; a file as Swagger UI knows it; no choice of one; words with their type."""
    if schema.get("$ref") == upload:
        return {**{key: part for key, part in schema.items() if key != "$ref"}, **_FILE}
    plain = {key: _plain_part(key, part, upload) for key, part in schema.items() if key != "default" and part != []}
    if len(plain.get("anyOf", ())) == 1:
        plain |= plain.pop("anyOf")[0]
    if all(isinstance(word, str) for word in plain.get("enum", [None])):
        plain["type"] = "string"
    return plain


def _plain_part(key: str, part: Any, upload: str) -> Any:
    if key == "properties":
        return {name: _plain(schema, upload) for name, schema in part.items()}
    if key in {"anyOf", "prefixItems"}:
        return [_plain(schema, upload) for schema in part]
    return _plain(part, upload) if isinstance(part, dict) else part
