"""Promises that a test of the suite holds: the row names the test, which must exist."""

from __future__ import annotations

import re

from tests.conformance.servers import Servers
from tests.server.conftest import ROOT


def by(_: Servers, test: str) -> None:
    """`tests/…/test_file.py::test_name`."""
    path, name = test.split("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^ *def {re.escape(name)}\(", text, re.MULTILINE), f"{path} has no test {name}"
