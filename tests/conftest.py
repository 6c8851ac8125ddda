"""Fixtures of every test: a cache folder of its own, a folder per run, and photographs. Nothing that a test starts writes to your home."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""One test process per core: torch's threads of each process would wait for those of the others."""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("user-cache"))


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """The JPEG files in `tests/photos`; none of them is square."""
    return sorted((Path(__file__).parent / "photos").glob("*.jpg"))


@pytest.fixture(scope="session")
def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
