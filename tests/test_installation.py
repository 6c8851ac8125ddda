"""The package as others install it: a wheel, an sdist, and the files of an image, without anything of this checkout.

One virtual environment per test run is installed by `deploy/install.sh`, in a folder with nothing but the paths that
Dockerfile.cpu copies. PyPI's own package `exporter` is installed beside.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.images.dockerfiles import values
from tests.server.conftest import wait_until

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = ("cli", "exporter", "runtime", "server")

pytestmark = pytest.mark.slow


def run(*command: str | Path, **options) -> str:
    """Standard output and error of a command that succeeds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def clean_environment(**given: str) -> dict[str, str]:
    """Without this checkout on the path."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | given


def copied_paths() -> Iterator[str]:
    """Every path that the image's installation takes from the checkout."""
    for value in values("cpu", 0, "COPY"):
        *sources, target = value.split()
        if target != "/models":
            assert target in {"./", *sources}, value
            yield from sources


def copy(path: str, target: Path) -> None:
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    if (ROOT / path).is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / path, target / path, symlinks=True, ignore=ignored)
    else:
        shutil.copy2(ROOT / path, target / path)


@pytest.fixture(scope="session")
def environment(folder_of_the_run: Path) -> Path:
    """The virtual environment: the first process to need it installs, the others wait."""
    base = folder_of_the_run / "installation"
    with FileLock(folder_of_the_run / "installation.lock"):
        if not (base / "done").exists():
            for path in copied_paths():
                copy(path, base / "source")
            given = clean_environment(PYTHON=sys.executable)
            run("deploy/install.sh", base / "venv", "cpu", cwd=base / "source", env=given)
            run(base / "venv/bin/python", "-m", "pip", "install", "--quiet", "exporter", "build", env=given)
            (base / "done").touch()
    return base / "venv"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout, without models and pictures."""
    target = tmp_path_factory.mktemp("tree")
    for path in (*copied_paths(), "bench", "tests", "docs", "Makefile"):
        copy(path, target)
    return target


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", output, tree, env=clean_environment())
    (path,) = output.iterdir()
    return path


def test_a_wheel_holds_one_package(wheel):
    """`siglip_edge` with its rooms and its mark for type checkers; no `bench`, no top-level `server` or `exporter`."""
    names = names_in(wheel)
    assert {name.partition("/")[0] for name in names} == {"siglip_edge", f"siglip_edge-{PROJECT['version']}.dist-info"}
    assert "siglip_edge/py.typed" in names
    assert not any(name.startswith("siglip_edge/bench") for name in names)
    modules = {f"siglip_edge/{path.relative_to(ROOT)}" for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert modules <= names


def test_an_sdist_makes_the_same_wheel(environment, tree, wheel, tmp_path):
    """`python -m build` makes the archive of sources, and from that alone a wheel with the same files."""
    run(environment / "bin/python", "-m", "build", "--outdir", tmp_path, tree, env=clean_environment())
    (from_sdist,) = tmp_path.glob("*.whl")
    assert list(tmp_path.glob(f"siglip_edge-{PROJECT['version']}.tar.gz"))
    assert names_in(from_sdist) == names_in(wheel)


def test_an_installation_tells_the_version(environment):
    """`siglip-edge --version`, and what is installed fits together."""
    assert PROJECT["version"] in run(environment / "bin/siglip-edge", "--version", env=clean_environment())
    run(environment / "bin/python", "-m", "pip", "check", env=clean_environment())


def test_pypis_exporter_stays_whole_beside_ours(environment):
    """`import exporter` is PyPI's; ours is `siglip_edge.exporter`; the other rooms have no bare name."""
    code = (
        "import exporter.console_script, siglip_edge.exporter.errors, importlib.util as u\n"
        "print(exporter.__file__, siglip_edge.exporter.__file__)\n"
        "print([name for name in ('cli', 'runtime', 'server', 'bench') if u.find_spec(name)])\n"
    )
    theirs, ours, bare = run(environment / "bin/python", "-P", "-c", code, env=clean_environment()).split(maxsplit=2)
    assert theirs.endswith("site-packages/exporter/__init__.py")
    assert ours.endswith("site-packages/siglip_edge/exporter/__init__.py")
    assert bare == "[]\n"


def test_a_server_starts_among_folders_of_the_same_names(environment, tmp_path):
    """`server/`, `runtime/` and more in the working directory and on PYTHONPATH are none of ours: the model answers."""
    for room in (*ROOMS, "bench"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise ImportError('a folder of somebody else')")
    given = clean_environment(
        PYTHONPATH=str(tmp_path), MODEL=str(ROOT / "quantized_models/emoji-siglip"), PORT="0", PREPARE="false"
    )
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen([environment / "bin/siglip-edge", "serve"], cwd=tmp_path, env=given, stderr=output)
    try:
        wait_until(lambda: server.poll() is not None or "Listening on" in log.read_text())
        assert server.poll() is None, log.read_text()
        (url,) = re.findall(r"Listening on (\S+)", log.read_text())
        body = urllib.request.Request(
            f"{url}/v1/embeddings", b'{"input": "pizza"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(body, timeout=60) as answer:
            assert b'"embedding"' in answer.read()
        port = url.rpartition(":")[2]
        run(environment / "bin/siglip-edge", "healthcheck", cwd=tmp_path, env={**given, "PORT": port})
    finally:
        server.terminate()
        assert server.wait(60) == 0


def test_what_an_installation_lacks_is_one_sentence(environment, tmp_path):
    """`bench` is in a checkout, and `export` in an extra."""
    script, given = environment / "bin/siglip-edge", clean_environment()
    assert "bench" not in run(script, "--help", env=given)
    for command, sentence in (
        (["bench", str(tmp_path)], "Error: bench needs a checkout of the project: run `make bench` there\n"),
        (
            ["export", "somewhere", "-o", str(tmp_path)],
            r"Error: \w+ is not installed; pip install 'siglip-edge\[export\]'\n",
        ),
    ):
        done = subprocess.run([script, *command], env=given, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert re.fullmatch(sentence, done.stderr)
