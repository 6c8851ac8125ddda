"""What the Makefile, pyproject.toml and CI promise about a fresh machine. tests/images is about the containers."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from siglip_edge.runtime.checks.kernels import excluded

ROOT = Path(__file__).parents[1]


def test_the_workflow_runs_the_readmes_command():
    """GitHub runs `.ci/run` on the Python version that constraints.txt was made for, and uploads nothing."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "- run: .ci/run\n" in workflow
    assert 'python-version: "3.11"' in workflow
    assert "upload" not in re.sub("#.*", "", workflow)


def install(*arguments: str | Path, **given: str) -> subprocess.CompletedProcess[str]:
    """deploy/install.sh up to pip, which prints its help instead of installing."""
    return subprocess.run(
        [ROOT / "deploy/install.sh", *arguments, "cpu", "--help"], cwd=ROOT, env={**os.environ, **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_virtual_environment_of_another_python_is_made_again(tmp_path):
    """The second `make serve` after a change of Python works as the first one did, and says what it does."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "bin/python").write_text("#!/bin/sh\necho 3.9\n")
    (tmp_path / "bin/python").chmod(0o755)
    done = install(tmp_path, PYTHON=sys.executable)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"install.sh: {tmp_path} has Python 3.9; it is made again with Python {version}\n"
    assert version in subprocess.check_output([tmp_path / "bin/python", "--version"], text=True)


def test_a_folder_that_is_no_virtual_environment_stays(tmp_path):
    """install.sh deletes nothing that it did not make."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = install(tmp_path, PYTHON=sys.executable)
    assert done.returncode == 1
    assert done.stderr == (
        f"install.sh: {tmp_path} exists and is no virtual environment; move it, or name another folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_python_3_11_install_sh_says_how_to_name_one(tmp_path):
    """One sentence, before anything is written."""
    done = install(tmp_path / "venv", PYTHON="python3.none")
    assert done.returncode == 1
    assert done.stderr == (
        "install.sh: python3.none does not run; install Python 3.11, or name one: PYTHON=/path/to/python3.11\n"
    )
    assert not (tmp_path / "venv").exists()


def test_data_files_are_packaged():
    """What a module reads beside itself travels with it, in an installation that is not editable too."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for room in ("cli", "exporter", "runtime", "server"):
        files = [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        beside = {str(path.relative_to(ROOT / room)) for path in files if path.suffix != ".py"}
        assert beside == set(data.get(f"siglip_edge.{room}", [])), room


def test_the_wheels_of_onnxruntime_exclude_each_other():
    """CUDA has a wheel of its own and conflicts with every extra that takes the stock wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    stock = {"cpu"} | {extra for extra, named in extras.items() if "siglip-edge[cpu]" in named}
    assert stock == {"cpu", "openvino", "export", "export-onnx"}
    (cuda,) = (name for name in extras["cuda"] if name.startswith("onnxruntime"))
    assert cuda.startswith("onnxruntime-gpu")
    for extra in stock:
        assert [{"extra": extra}, {"extra": "cuda"}] in project["tool"]["uv"]["conflicts"]
    assert not any("torch" in requirement for requirement in project["project"]["dependencies"])


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_no_extra_installs_an_onnxruntime_that_is_excluded(machine):
    """pyproject.toml refuses the releases that `runtime/checks/kernels.py` warns of, and takes the tested one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [Requirement(text) for extra in project["optional-dependencies"].values() for text in extra]
    wheels = [one for one in named if re.fullmatch("onnxruntime(-gpu|-openvino)?", one.name)]
    assert {one.name for one in wheels} >= {"onnxruntime", "onnxruntime-gpu"}
    for wheel in wheels:
        for release in ("1.22.0", "1.24.4", "1.25.0", "1.27.0", "1.31.1"):
            assert not (excluded(release, machine) and wheel.specifier.contains(release)), f"{wheel}: {release}"
        assert wheel.specifier.contains("1.31.1")


def test_serving_never_imports_the_training_stack():
    """The composition root loads neither torch nor transformers nor onnx, even where they are installed."""
    program = "import sys, siglip_edge.server.app, siglip_edge.runtime.model; print(sorted({'torch', 'transformers', 'onnx', 'optimum'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
