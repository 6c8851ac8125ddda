"""The rows: what the predecessors' documents promise, and what is true of it here."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.conformance.servers import Servers

TABLE = Path(__file__).with_name("rows.tsv")

OUTCOMES = {
    "W": "works",
    "D+": "differs, better here",
    "D=": "differs, harmless",
    "D-": "differs, breaks a user",
    "P": "partly",
    "M": "missing",
    "U": "not testable here",
}

Check = Callable[..., None]
"""Raises AssertionError when the row is not true of this checkout. Arguments: the servers, then texts of the table."""

CHEAP = {"files", "held", "plans", "requests", "health", "settings"}
"""Modules of checks that need no other server than that of the default settings; pytest runs them."""


@dataclass(frozen=True)
class Row:
    """One promise of a document."""

    id: str
    """The document and the number of the row in it, as in `siglip2-api-025`."""
    claim: str
    outcome: str
    """A key of `OUTCOMES`: what holds when the check passes."""
    check: str
    """Module and name of the check, and its arguments, as in `health.has device str`. Empty: not replayed."""
    note: str
    """Why the row differs, is missing or is not replayed."""

    @property
    def seed(self) -> str:
        return self.id.rpartition("-")[0]

    @property
    def is_cheap(self) -> bool:
        return self.check.partition(".")[0] in CHEAP

    def replay(self, servers: Servers) -> None:
        """Run the check. Raises AssertionError, or what else goes wrong in it."""
        check, *arguments = shlex.split(self.check)
        find_check(check)(servers, *arguments)


def find_check(name: str) -> Check:
    """`health.has` -> `tests.conformance.checks.health.has`."""
    module, _, function = name.partition(".")
    check: Check = getattr(import_module(f"tests.conformance.checks.{module}"), function)
    return check


def read_rows() -> list[Row]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
