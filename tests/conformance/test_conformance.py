"""The table of the predecessors' promises is whole, and its cheap rows hold; `make conformance` replays all of it."""

from __future__ import annotations

import pytest

from tests.conformance.servers import Servers
from tests.conformance.table import OUTCOMES, Row, find_check, read_rows

ROWS = read_rows()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One server of the default settings for all rows of this module."""
    made = Servers(tmp_path_factory.mktemp("conformance"))
    yield made
    made.stop()


def test_every_promise_has_one_row():
    """As many as the survey of the documents found, each with an id of its own and a known outcome."""
    assert len({row.id for row in ROWS}) == len(ROWS) == 263
    assert {row.outcome for row in ROWS} <= OUTCOMES.keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_says_how_it_is_known(row: Row):
    """By a check that exists, or by the reason why there is none; a difference always has a reason."""
    assert row.check or row.note
    assert row.outcome == "W" or row.note or "health." in row.check
    if row.check:
        find_check(row.check.split()[0])


def test_nothing_breaks_a_user():
    """What is missing or there in part is planned work."""
    assert not [row.id for row in ROWS if row.outcome == "D-"]
    assert not [row.id for row in ROWS if row.outcome in {"P", "M"} and "planned: " not in row.note]


@pytest.mark.parametrize("row", [row for row in ROWS if row.check and row.is_cheap], ids=lambda row: row.id)
def test_a_cheap_row_holds(row: Row, servers: Servers):
    row.replay(servers)
