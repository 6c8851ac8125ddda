"""What the Dockerfiles say, held without an engine; tests/images/downloads builds and runs one."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement

from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import variables
from tests.images.dockerfiles import IMAGES, ROOT, SERVING, environment_of, instructions, text_of, values

ROOMS = ("cli", "exporter", "runtime", "server", "siglip_edge")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_there_is_an_image_per_extra_and_one_for_the_exporter():
    """`docker build .`, as siglip2-api's users write it, makes the CPU image."""
    assert {path.name for path in ROOT.glob("Dockerfile*")} == {"Dockerfile", *(f"Dockerfile.{one}" for one in IMAGES)}
    assert (ROOT / "Dockerfile").readlink().name == "Dockerfile.cpu"
    assert set(IMAGES) < set(PROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_installed_by_the_makefiles_own_script(image):
    """Docker, make and CI install alike, so testing one covers the others."""
    (command,) = values(image, 0, "RUN")
    assert command.startswith(f"PYTHON=python3.11 deploy/install.sh /opt/siglip-edge {image} ")
    assert "deploy/install.sh $(SERVE) cpu" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_copies_everything_its_installation_needs(image):
    """Every package and file that pyproject.toml names is copied into the build stage."""
    copied = " ".join(values(image, 0, "COPY")).split()
    files = ("pyproject.toml", "constraints.txt", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"])
    assert {*ROOMS, *files} <= set(copied)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_an_ordinary_user_on_the_base_that_it_was_built_on(image):
    """The user has a number, so that Kubernetes can tell that it is not root; the virtual environment finds its Python."""
    (user,) = values(image, 1, "USER")
    assert int(user) > 0
    (build,), (final,) = values(image, 0, "FROM"), values(image, 1, "FROM")
    assert build == f"{final} AS build"
    assert final == "python:3.11-slim-bookworm"  # has arm64, too


@pytest.mark.parametrize("image", SERVING)
def test_an_image_checks_its_health_without_curl(image):
    """By the installed command, which asks where the server listens."""
    (check,) = values(image, 1, "HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["siglip-edge", "healthcheck"]
    assert "curl" not in text_of(image)


@pytest.mark.parametrize("image", SERVING)
def test_serving_images_differ_in_their_extra_only(image):
    """And in variables for the driver and the patience of the health check."""

    def common(name):
        lines = [f"{keyword} {value}" for stage in (0, 1) for keyword, value in instructions(name, stage)]
        whole = "\n".join(lines).replace(f"/opt/siglip-edge {name} ", "/opt/siglip-edge EXTRA ")
        return re.sub(r"NVIDIA_\w+=\S+\s+|--start-period=\d+s", "", whole).split()

    assert common(image) == common("cpu")


@pytest.mark.parametrize("image", SERVING)
def test_what_an_operator_gives_beats_the_image(image):
    """A variable that an image sets has no second name, which `docker run -e` could give in vain."""
    aliases = {name: row.metadata["names"] for row in variables(Settings) for name in row.metadata["names"]}
    chosen = set(environment_of(image)) & set(aliases)
    assert chosen == {"HOST", "PORT", "CACHE_DIR", "MODELS_DIR"}
    assert all(aliases[name] == [name] for name in chosen)


def test_an_image_gets_the_paths_that_it_copies_and_no_others():
    """`.dockerignore` keeps keys, virtual environments, figures and history out of the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {source for image in IMAGES for value in values(image, 0, "COPY") for source in value.split()[:-1]}
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied


def test_cuda_is_what_the_wheel_names():
    """The extras of onnxruntime-gpu bring CUDA and cuDNN, and the tested versions are of one CUDA."""
    (wheel,) = map(Requirement, PROJECT["project"]["optional-dependencies"]["cuda"])
    assert (wheel.name, wheel.extras) == ("onnxruntime-gpu", {"cuda", "cudnn"})
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line.startswith(("nvidia-", "onnxruntime-gpu")))
    majors = {pinned[f"nvidia-{part}"].split(".")[0] for part in ("cublas", "cuda-runtime", "cuda-nvrtc")}
    assert len(majors) == 1
    assert {name for name in pinned if name.startswith("nvidia-cudnn")} == {f"nvidia-cudnn-cu{majors.pop()}"}
    assert pinned["onnxruntime-gpu"]


def test_compose_starts_the_image_that_a_build_makes():
    """`docker compose up` builds `Dockerfile`, with the read-only file system and the cache that deploy.md shows."""
    text = (ROOT / "compose.yaml").read_text()
    for line in ("build: .", "read_only: true", "- /tmp", "- cache:/cache", '- "8000:8000"'):
        assert line in text
