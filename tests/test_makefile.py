"""`make` keeps the environments that it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@pytest.fixture
def checkout(tmp_path):
    """-> a checkout with an environment that is installed."""
    for path in ("Makefile", "pyproject.toml", "constraints.txt", "deploy/install.sh"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"version = {VERSION}.7\n")
    (tmp_path / ".venv/.installed").touch()
    return tmp_path


def commands(checkout, target):
    """-> the commands that `make` would run, whether the tests run below a `make` or not."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--dry-run", target, f"PYTHON={sys.executable}"],
        cwd=checkout, env={**outside, "MODEL": ""}, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


def test_an_installed_environment_is_served_from(checkout):
    """The model comes from the caller's environment, or is the server's default."""
    assert commands(checkout, "serve") == ".venv/bin/siglip-edge serve\n"


@pytest.mark.parametrize("version", ["version = 3.9.2", "version_info = 3.12.1"])
def test_an_environment_of_another_python_is_made_again(checkout, version):
    """However it was made."""
    (checkout / ".venv/pyvenv.cfg").write_text(f"{version}\n")
    assert "deploy/install.sh .venv cpu" in commands(checkout, "serve")


def test_an_environment_whose_python_is_gone_is_made_again(checkout):
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert "deploy/install.sh .venv cpu" in commands(checkout, "serve")
