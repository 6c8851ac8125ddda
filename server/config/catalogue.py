"""A catalogue of models in YAML: `models:`, a list of entries with name, directory or hub id, family, prompts, aliases.

The catalogue of Simple Inference Server (name, hf_repo_id, handler) is read too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from siglip_edge.server.config import parsing
from siglip_edge.server.config.listed_models import Catalogue, Entry, hub_names
from siglip_edge.server.config.parsing import UnreadableValue
from siglip_edge.server.config.text_files import read_text
from siglip_edge.server.config.unknown_names import nearest_name
from siglip_edge.server.config.variables import SettingsInvalid


def read_catalogue(file: Path) -> Catalogue:
    """Read the file. Raises SettingsInvalid, which names file, line and field."""
    text = read_text(file, f"MODEL_CONFIG={file}")
    try:
        document = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsInvalid(f"{file}, line {line}: {error.problem or 'no YAML'}") from None
    except yaml.YAMLError as error:
        raise SettingsInvalid(f"{file}: {error}") from None
    reader = _Reader(file)
    entries = tuple(reader.entries(document))
    return Catalogue(entries, tuple(reader.notices))


_FIELDS = ("name", "path", "directory", "hf_repo_id", "family", "prompts", "aliases", "max_patches", "handler")


class _Reader:
    """Reads the nodes of one file; a node knows its line."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.notices: list[str] = []

    def entries(self, document: yaml.Node | None) -> Iterator[Entry]:
        fields = self._mapping(document, "the file", ("models",))
        models = fields.get("models")
        if not isinstance(models, yaml.SequenceNode) or not models.value:
            raise self._wrong(models or document, "models", "is no list of models")
        names: set[str] = set()
        for node in models.value:
            entry = self._entry(node)
            if entry.name in names:
                raise self._wrong(node, "name", f"{entry.name!r} stands in the list twice")
            names.add(entry.name)
            yield entry

    def _entry(self, node: yaml.Node) -> Entry:
        fields = self._mapping(node, "models", _FIELDS)
        where = [fields[key] for key in ("path", "directory", "hf_repo_id") if key in fields]
        if not where:
            raise self._wrong(node, "path", "is missing; give a model directory, or hf_repo_id: a hub id")
        path = self._path(where[0])
        if "handler" in fields and not self.notices:
            self.notices.append(
                f"{self._place(fields['handler'])}: handler has no effect; the model directory says how it is run"
            )
        hub_id = self._optional(fields, "hf_repo_id", self._text) or ""
        return Entry(
            name=self._optional(fields, "name", self._text) or path,
            path=path,
            family=self._optional(fields, "family", self._text),
            text_template=self._optional(fields, "prompts", self._template),
            max_patches=self._optional(fields, "max_patches", self._count),
            aliases=(*(self._optional(fields, "aliases", self._texts) or ()), *hub_names(hub_id)),
            place=self._place(node),
        )

    def _optional(self, fields: dict[str, yaml.Node], key: str, read: Callable[[yaml.Node, str], Any]) -> Any:
        return read(fields[key], key) if key in fields else None

    def _template(self, node: yaml.Node, key: str) -> str:
        """`default`: the text before every text, or a sentence with {} in place of it."""
        prompts = self._mapping(node, key, ("default",))
        if not prompts:
            raise self._wrong(node, key, "has no default")
        prompt = self._text(prompts["default"], f"{key}.default")
        return prompt if "{}" in prompt else f"{prompt}{{}}"

    def _mapping(self, node: yaml.Node | None, key: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, key, f"is no mapping with {', '.join(known)}")
        given = [name.value for name, _ in node.value]
        for name, _ in node.value:
            if given.count(name.value) > 1:
                raise self._wrong(name, str(name.value), "stands there twice")
            if name.value not in known:
                near = nearest_name(str(name.value), known)
                advice = f"did you mean {near}?" if near else f"allowed: {', '.join(known)}"
                raise self._wrong(name, str(name.value), f"is no field of {key}; {advice}")
        return {name.value: value for name, value in node.value}

    def _path(self, node: yaml.Node) -> str:
        path = self._text(node, "path")
        try:
            return str(parsing.path(path))
        except UnreadableValue as error:
            raise self._wrong(node, "path", f"cannot be read; allowed: {error.allowed}") from None

    def _text(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not str(node.value).strip():
            raise self._wrong(node, key, "is no text")
        return str(node.value)

    def _count(self, node: yaml.Node, key: str) -> int:
        try:
            return parsing.integer(1, 4096)(self._text(node, key))
        except UnreadableValue as error:
            raise self._wrong(node, key, f"cannot be read; allowed: {error.allowed}") from None

    def _texts(self, node: yaml.Node, key: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, key, "is no list of texts")
        return tuple(self._text(one, key) for one in node.value)

    def _wrong(self, node: yaml.Node | None, key: str, what: str) -> SettingsInvalid:
        return SettingsInvalid(f"{self._place(node)}: {key} {what}")

    def _place(self, node: yaml.Node | None) -> str:
        return f"{self._file}, line {node.start_mark.line + 1 if node else 1}"
