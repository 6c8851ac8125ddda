"""Fixtures of every test: a cache folder of its own, and photographs. Nothing that a test starts writes to your home."""

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
