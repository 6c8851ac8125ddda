"""The server needs to read its model, and nothing else: no home, no name, no directory that it may write to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.conftest import ROOT, wait_until
from tests.server.gunicorn.test_start_and_stop import LISTENING

AS_ORDINARY_USER = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 and shutil.which("setpriv") else ()
)
"""Words before a command. Without these capabilities, the mode bits of files hold for root too."""

NAMELESS = "import os; os.getuid = lambda: 4_000_000_000; from siglip_edge.cli.main import main; main()"
"""Python code of the command line for a user whom no file of users knows."""


def read_only(directory: Path) -> None:
    for path in [directory, *directory.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def writable_again(tmp_path):
    """pytest removes the directory itself."""
    yield
    for path in [tmp_path, *tmp_path.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def hub_cache(model: Path, root: Path) -> Path:
    """-> the model as a hub's cache holds it: links to files that are named after their content."""
    snapshot, blobs = root / "snapshots/0123abcd", root / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_model_in_a_read_only_hub_cache_and_a_read_only_cache_that_somebody_prepared(
    start, tiny_dir, tmp_path, writable_again
):
    """Both are only read. The packed graphs of the cache are used, so nothing is packed again."""
    snapshot, cache = hub_cache(tiny_dir, tmp_path / "models--me--tiny"), tmp_path / "cache"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CACHE_DIR": str(cache), "DEVICE": "cpu"}
    subprocess.run([sys.executable, "-m", "siglip_edge", "prepare", str(snapshot)], env=environ, check=True, timeout=60)
    for directory in (tmp_path / "models--me--tiny", cache):
        read_only(directory)
    server = start(inside=AS_ORDINARY_USER, MODEL=str(snapshot), CACHE_DIR=str(cache), PREPARE="true", DEVICE="cpu")
    assert server.stop() == 0
    log = server.log.read_text()
    assert "model tiny ready" in log
    assert "packing" not in log
    assert "WARNING" not in log


def test_a_user_without_a_name_and_a_home(tiny_dir, tmp_path):
    """A random user id in a container: the server starts, says that nothing is kept, and makes no directory."""
    environ = {"PYTHONPATH": str(ROOT), "MODEL": str(tiny_dir), "PORT": "0", "PATH": os.defpath}
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", NAMELESS, "serve"], env=environ, cwd=tmp_path, stdout=output, stderr=output
        )
    wait_until(lambda: bool(LISTENING.search(log.read_text())) or server.poll() is not None)
    server.terminate()
    assert server.wait(60) == 0, log.read_text()
    assert "this user has no home directory" in log.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
