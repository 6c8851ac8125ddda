"""The CPU image, built from its Dockerfile and run as a container: `make test-images`.

Skipped, in words, without buildah, podman, runc and debootstrap (`apt-get install --no-install-recommends buildah podman
runc debootstrap`), or without root. They need no daemon. Where no registry can be reached, the base is made of Debian's
packages, which have Python 3.11 too.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.images.dockerfiles import ROOT, values
from tests.server.conftest import _free_port, wait_until

TOOLS = ("buildah", "podman", "runc", "debootstrap")
STRANGER = "54321:54321"
"""A user without a name, a group or a home directory."""

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="building and running containers needs root here"),
]

Engine = Callable[..., str]


def run(*command: str | Path, **options) -> str:
    """Standard output and error of a command that succeeds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    """`engine("buildah", ...)`: a tool with a store of its own, which is removed at the end."""
    store = tmp_path_factory.mktemp("store")
    given = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}

    def call(tool: str, *arguments: str | Path) -> str:
        places = ["--root", store / "root", "--runroot", store / "run"]
        runtime = ["--runtime", "runc", "--cgroup-manager", "cgroupfs"] if tool == "podman" else []
        return run(tool, *places, *runtime, *arguments, env=given)

    yield call
    call("podman", "rm", "--all", "--force")
    shutil.rmtree(store, ignore_errors=True)


def make_base(engine: Engine, folder: Path, name: str) -> None:
    """Debian with its Python 3.11, and with this machine's settings for pip."""
    run("debootstrap", "--variant=minbase", "bookworm", folder)
    install = (
        "apt-get update && apt-get install --yes --no-install-recommends python3.11 python3.11-venv ca-certificates"
    )
    run("chroot", folder, "sh", "-c", install, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    for path in ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt", "/etc/resolv.conf"):
        if Path(path).is_dir():
            shutil.copytree(path, f"{folder}{path}", dirs_exist_ok=True)
        elif Path(path).exists():
            Path(f"{folder}{path}").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, f"{folder}{path}")
    container = engine("buildah", "from", "scratch").strip()
    engine("buildah", "copy", "--quiet", container, folder, "/")
    for variable, value in os.environ.items():
        if variable.startswith("PIP_"):
            engine("buildah", "config", "--env", f"{variable}={value}", container)
    engine("buildah", "commit", "--quiet", "--rm", container, name)


@pytest.fixture(scope="module")
def image(engine, tmp_path_factory) -> str:
    """The image that `docker build -t siglip2-api .` makes."""
    (base,) = values("cpu", 1, "FROM")
    name = f"docker.io/library/{base}"
    try:
        engine("buildah", "pull", name)
    except AssertionError:  # no registry
        make_base(engine, tmp_path_factory.mktemp("debian") / "base", name)
    engine("buildah", "bud", "--pull-never", "--format", "docker", "-t", "siglip2-api", ROOT)
    return "siglip2-api"


def run_options() -> list[str]:
    """Limits that this machine allows; the health check is called by the test, for want of systemd."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        "--no-healthcheck",
        "--network",
        "host",
        "--ulimit",
        f"nofile={files}:{files}",
        "--ulimit",
        "nproc=4096:4096",
    ]


def get(request: str | urllib.request.Request) -> dict:
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_the_image_serves_as_any_user_from_a_read_only_file_system(engine, image):
    """With a quota of one CPU: it is ready, its health check agrees, it embeds, plans for the quota and stops in peace."""
    port = str(_free_port())
    limits = ["--read-only", "--tmpfs", "/tmp", "--user", STRANGER, "--cpus", "1", "-v", "cache:/cache"]
    name = engine("podman", "run", "--detach", *run_options(), *limits, "-e", f"PORT={port}", image).split()[-1]
    wait_until(lambda: "Listening on" in engine("podman", "logs", name))
    engine("podman", "exec", name, "siglip-edge", "healthcheck")
    url = f"http://127.0.0.1:{port}"
    body = urllib.request.Request(f"{url}/v1/embeddings", b'{"input": "pizza"}', {"Content-Type": "application/json"})
    assert len(get(body)["data"][0]["embedding"]) == 192
    assert get(f"{url}/health")["hardware"]["quota"] == 1
    assert "prepared" in engine("podman", "exec", name, "ls", "/cache")
    engine("podman", "stop", "--time", "75", name)
    assert engine("podman", "inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    assert engine("podman", "logs", name).rstrip().endswith("Stopped")


def test_a_variable_of_a_predecessor_beats_the_image(engine, image):
    """`docker run -e SIGLIP_MODEL=…`, as siglip2-api's users give it: that model, or a sentence; never another model."""
    with pytest.raises(AssertionError, match="there is no model at /models/siglip2-large-patch16-512"):
        engine("podman", "run", *run_options(), "-e", "SIGLIP_MODEL=google/siglip2-large-patch16-512", image)
