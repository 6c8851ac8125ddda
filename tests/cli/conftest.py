"""The environment of every test of a command is its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """`serve` puts its flags into the environment of this process; the next test does not find them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
