"""Reads the rows of a table of variables: each has a name, aliases, a parser and a default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from siglip_edge.server.config.parsing import UnreadableValue
from siglip_edge.server.config.predecessors import translated


class SettingsInvalid(ValueError):
    """A variable has an invalid value. `str(error)` names the variable, the value and the allowed values."""


def variable(
    names: str, meaning: str, parse: Callable[[str], Any], *, default: Any, secret: bool = False
) -> Any:  # what `dataclasses.field` itself returns to type checkers
    """One row of the table. `names`: the variable, then its aliases. The first name that is set counts."""
    return field(default=default, metadata={"names": names.split(), "parse": parse, "help": meaning, "secret": secret})


@dataclass(frozen=True)
class Row:
    """One variable, as a line for people."""

    names: tuple[str, ...]
    value: str
    """The value in force."""
    default: str
    meaning: str
    is_secret: bool


def table(settings: Any) -> list[Row]:
    """The table of variables with the values in force. Of a secret, only the number of values is shown."""
    return [
        Row(
            names=tuple(row.metadata["names"]),
            value=shown(getattr(settings, row.name), secret=row.metadata["secret"]),
            default=shown(row.default, secret=False),
            meaning=row.metadata["help"],
            is_secret=row.metadata["secret"],
        )
        for row in variables(settings)
    ]


def variables(table: Any) -> list[Field[Any]]:
    """The rows: those fields of a dataclass that `variable` made."""
    return [row for row in fields(table) if "names" in row.metadata]


def known_names(table: Any) -> list[str]:
    """Every variable's name, then its aliases."""
    return [name for row in variables(table) for name in row.metadata["names"]]


def read(rows: Iterable[Field[Any]], sources: Sequence[Mapping[str, str]]) -> tuple[dict[str, Any], list[str]]:
    """-> the values that are set, by the field's name, and a sentence per alias that is overruled.

    An earlier source wins over a later one; in one source, an earlier name wins over a later one. An empty value counts
    as not set, and so does `auto` where it is no value of its own. Raises SettingsInvalid.
    """
    values, notices = {}, []
    for row in rows:
        for source in sources:
            if found := list(_found(row, source)):
                values[row.name] = found[0].value
                notices += [one.notice for one in found[:1] if one.notice]
                notices += [_overruled(found[0], one) for one in found[1:] if one.value != found[0].value]
                break
    return values, notices


@dataclass(frozen=True)
class _Found:
    """A variable that is set."""

    name: str
    shown: str
    value: Any
    notice: str


def _found(row: Field[Any], source: Mapping[str, str]) -> Iterator[_Found]:
    for name in row.metadata["names"]:
        given = source.get(name, "").strip()
        label = "(hidden)" if row.metadata["secret"] else repr(given)
        try:
            text, notice = translated(name, given) if given else ("", "")
            if text:
                yield _Found(name, label, _parsed(row, text), notice)
        except UnreadableValue as error:
            if given.lower() != "auto":
                raise SettingsInvalid(f"{name}={label} cannot be read; allowed: {error.allowed}") from None


def _parsed(row: Field[Any], text: str) -> Any:
    """Raises UnreadableValue, also for bytes that are no text in this locale; a path may have any bytes."""
    value = row.metadata["parse"](text)
    if not isinstance(value, Path) and any("\ud800" <= character <= "\udfff" for character in text):
        raise UnreadableValue("text in UTF-8; set LANG=C.UTF-8 if it is")
    return value


def _overruled(used: _Found, other: _Found) -> str:
    return (
        f"{used.name}={used.shown} counts, and {other.name}={other.shown} does not: both are names of one setting; "
        f"remove {other.name}"
    )


def shown(value: Any, *, secret: bool) -> str:
    if secret and value:
        return f"({len(value)} set)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, item)) if isinstance(item, tuple) else item for item in value)
    return "" if value is None or value is MISSING else str(value)
