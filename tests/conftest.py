"""Fixtures for all tests: temporary folders in place of the user's folders, a folder per run, and photographs."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""pytest runs one process per core, so the threads of torch in one process would wait for threads in another."""


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No program that a test starts writes to the home directory of the person who runs the tests."""
    for kind in ("CACHE", "CONFIG"):
        os.environ[f"XDG_{kind}_HOME"] = str(tmp_path_factory.mktemp(f"user-{kind.lower()}"))


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """A command that sets up logging in this process leaves no trace, so that `caplog` works in the next test.

    The loggers return to Python's defaults, not to their state before the test: a fixture of a module or of the session
    that runs a command has changed that state already.
    """
    yield
    for logger in (logging.getLogger(name) for name in ("siglip_edge", "gunicorn")):
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The JPEG files in `tests/photos`; none is square."""
    return sorted((Path(__file__).parent / "photos").glob("*.jpg"))


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
