"""Fixtures of every test: folders in place of the user's own, a folder per run, and photographs."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""There is a test process per core: threads of torch in one process would wait for those in another."""


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing that a test starts writes to the home of the person who runs it."""
    for kind in ("CACHE", "CONFIG"):
        os.environ[f"XDG_{kind}_HOME"] = str(tmp_path_factory.mktemp(f"user-{kind.lower()}"))


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """A command that sets up logging in this process does so for its own test: later ones read their log by `caplog`."""
    loggers = [logging.getLogger(name) for name in ("siglip_edge", "gunicorn")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The JPEG files in `tests/photos`; none of them is square."""
    return sorted((Path(__file__).parent / "photos").glob("*.jpg"))


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
