"""The installed server with exactly the image's variables, as a user without a name, without a home, writing nowhere else.

The file system is this machine's own, mounted read-only in a namespace of the process; tests/images/downloads runs real
containers.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.images.dockerfiles import ROOT, environment_of, values
from tests.server.conftest import _free_port, wait_until

STRANGER = 54321
TOOLS = ("unshare", "setpriv", "mount")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="another user and a read-only file system need root"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]

READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"                    # the volume for /cache
mount -t tmpfs tmpfs /dev/shm
mount -o remount,bind,ro /
mount -t tmpfs -o mode=1777 tmpfs /mnt    # --tmpfs /tmp; /tmp itself holds this test's files
shift
exec "$@"
"""
"""A read-only root but for a volume, /dev/shm and a directory for temporary files."""

AS_STRANGER = (
    "setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
)  # fmt: skip
"""Without rights but to read, because the tests' own folders are closed to others, unlike the image's."""


@pytest.fixture(scope="module")
def given(environment, tmp_path_factory) -> dict[str, str]:
    """The image's variables, with its paths here and a free port."""
    cache = tmp_path_factory.mktemp("cache")
    cache.chmod(0o1777)
    return {
        **environment_of("cpu"),
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "CACHE_DIR": str(cache),
        "MODELS_DIR": str(ROOT / "quantized_models"),
        "HOST": "127.0.0.1",
        "PORT": str(_free_port()),
        "TMPDIR": "/mnt",
    }


def inside(given: dict[str, str], *command: str) -> list[str]:
    """The command as the image runs it: no variables but the image's."""
    variables = [f"{name}={value}" for name, value in given.items()]
    return ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", given["CACHE_DIR"], *AS_STRANGER, "env", "-i", *variables,
            *command]  # fmt: skip


@pytest.fixture(scope="module")
def log(given, tmp_path_factory) -> Iterator[Path]:
    """The log of the running entry point; it ends with status 0."""
    path = tmp_path_factory.mktemp("log") / "log.txt"
    (entry,) = values("cpu", 1, "ENTRYPOINT")
    with path.open("wb") as output:
        server = subprocess.Popen(inside(given, *json.loads(entry)), stdout=output, stderr=subprocess.STDOUT, cwd="/")
    wait_until(lambda: server.poll() is not None or "Listening on" in path.read_text())
    assert server.poll() is None, path.read_text()
    wait_until(lambda: server.poll() is not None or _is_ready(given["PORT"]))
    yield path
    server.terminate()
    assert server.wait(60) == 0


def _is_ready(port: str) -> bool:
    """A server that listens answers 503 until its model is loaded and tested."""
    with suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=60):
        return True
    return False


def test_it_serves_and_its_health_check_agrees(given, log):
    """The demo model, found by the image's default; the health check is the image's own command."""
    url = f"http://127.0.0.1:{given['PORT']}/v1/embeddings"
    body = urllib.request.Request(url, b'{"input": "pizza"}', {"Content-Type": "application/json"})
    with urllib.request.urlopen(body, timeout=60) as answer:
        assert json.load(answer)["model"] == "emoji-siglip"
    (check,) = values("cpu", 1, "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    done = subprocess.run(inside(given, *command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_volume_is_written(given, log):
    """Packed graphs and verified checksums, by the stranger; no line of the log complains."""
    written = list(Path(given["CACHE_DIR"]).rglob("*"))
    assert {path.name for path in Path(given["CACHE_DIR"]).iterdir()} >= {"prepared", "verified", "passed"}
    assert {path.stat().st_uid for path in written} == {STRANGER}
    assert not [line for line in log.read_text().splitlines() if " INFO " not in line]


def test_a_check_of_a_server_that_is_not_there_fails(given):
    """So that an engine restarts the container."""
    command = shlex.split("siglip-edge healthcheck")
    elsewhere = {**given, "PORT": str(_free_port())}
    assert subprocess.run(inside(elsewhere, *command), capture_output=True, check=False).returncode == 1
