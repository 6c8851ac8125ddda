"""A real control group around a program, where the kernel and this user's rights allow it; a visible skip elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MOUNT = Path("/sys/fs/cgroup")


@contextmanager
def cgroup(controller: str, *, v1: dict[str, str], v2: dict[str, str]) -> Iterator[list[str]]:
    """-> the words before a command that run it inside. `v1`, `v2`: file -> its content, by the kernel's version."""
    parent, files = _parent(controller, v1, v2)
    group = parent / f"siglip-edge-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        _write(group, files)
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()


def _parent(controller: str, v1: dict[str, str], v2: dict[str, str]) -> tuple[Path, dict[str, str]]:
    """The group of the tests themselves, and what is to be written."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        pytest.skip(f"no cgroups here: {error}")
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controller in controllers.split(","):
            return MOUNT / controllers / path.lstrip("/"), v1
        if not controllers and (MOUNT / "cgroup.controllers").exists():
            return MOUNT / path.lstrip("/"), v2
    pytest.skip(f"no {controller} controller here")


def _write(group: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        try:
            (group / name).write_text(content)
        except OSError as error:
            pytest.skip(f"no {name} can be set here: {error}")
