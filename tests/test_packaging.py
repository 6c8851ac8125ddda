"""What the Makefile, the Dockerfiles and CI promise about a fresh machine, held without a Docker engine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILES = ["Dockerfile.cpu", "Dockerfile.cuda"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_installed_by_the_makefiles_own_script(name):
    """Docker, make and CI install alike, so testing one covers the others."""
    extra = name.partition(".")[2]
    assert f"deploy/install.sh /opt/siglip-edge {extra}\n" in (ROOT / name).read_text()
    assert "deploy/install.sh $(SERVE) cpu" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_copies_everything_its_installation_needs(name):
    """Every package and file that pyproject.toml names is copied into the build stage."""
    text = (ROOT / name).read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for package in ("cli", "exporter", "runtime", "server", "siglip_edge"):
        assert f"COPY {package} {package}\n" in text
    for file in (
        "pyproject.toml",
        "constraints.txt",
        project["project"]["readme"],
        *project["project"]["license-files"],
    ):
        assert re.search(rf"^COPY .*{re.escape(file)}.*$", text, re.MULTILINE), file


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_non_root_and_checks_its_health_without_curl(name):
    """The server runs as an ordinary user; the health check is Python's own."""
    text = (ROOT / name).read_text()
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
    assert '"siglip-edge", "healthcheck"' in text
    assert "curl" not in text


def test_data_files_are_packaged():
    """What a module reads beside itself travels with it, in an installation that is not editable too."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for room in ("cli", "exporter", "runtime", "server"):
        files = [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        beside = {str(path.relative_to(ROOT / room)) for path in files if path.suffix != ".py"}
        assert beside == set(data.get(f"siglip_edge.{room}", [])), room


def test_the_wheels_of_onnxruntime_exclude_each_other():
    """Each runtime extra holds exactly one onnxruntime wheel, and they are declared as conflicting."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for extra in ("cpu", "cuda", "openvino"):
        assert sum(requirement.startswith("onnxruntime") for requirement in extras[extra]) == 1
    assert [{"extra": "cpu"}, {"extra": "cuda"}, {"extra": "openvino"}] in project["tool"]["uv"]["conflicts"]
    assert not any("torch" in requirement for requirement in project["project"]["dependencies"])


def test_serving_never_imports_the_training_stack():
    """The composition root loads neither torch nor transformers nor onnx, even where they are installed."""
    program = "import sys, siglip_edge.server.app, siglip_edge.runtime.model; print(sorted({'torch', 'transformers', 'onnx', 'optimum'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
