"""Servers as `tests/server` starts them."""

from tests.server.conftest import start  # noqa: F401 - a fixture
