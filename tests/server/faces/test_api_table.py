"""`docs/api-tests.md` names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.server.conftest import ROOT

NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs/api-tests.md").read_text())))


def test_the_table_is_not_empty():
    """The pattern finds test names on the page."""
    assert len(NAMED) > 80


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path, name):
    """Each named file defines the named test."""
    files = [ROOT / path] if "/" in path else list((ROOT / "tests/server").rglob(path))
    assert [file for file in files if re.search(rf"def {name}\(", file.read_text())]
