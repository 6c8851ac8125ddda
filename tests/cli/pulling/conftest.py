"""A tiny model directory on a hub of the loopback; every other address is out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from siglip_edge.cli.main import main
from tests.cli.pulling.hub_server import Hub, serving_hub
from tests.tiny_model import write_model

NO_WAY_OUT = "http://127.0.0.1:9"
"""A proxy that nobody runs: a request to any host but the loopback ends there."""

Pull = Callable[..., Any]


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The directory that is served."""
    return write_model(tmp_path_factory.mktemp("on the hub") / "tiny")


@pytest.fixture
def hub(model) -> Iterator[Hub]:
    with serving_hub(model) as served:
        yield served


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    """Without the variables of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NO_WAY_OUT)
    own = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "MODELS_DIR": str(tmp_path / "models")}
    return kept | proxies | dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost") | own


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "siglip_edge", "pull"]


@pytest.fixture
def pull(environment, hub, monkeypatch) -> Pull:
    """Run the command in this process. huggingface_hub has read the hub's address already, when it was imported."""
    from siglip_edge.cli.pulling import download
    from siglip_edge.cli.pulling.hub import HubSource

    monkeypatch.setattr(HubSource, "endpoint", hub.url)
    monkeypatch.setattr(download, "_PAUSE_S", 0)

    def run(*arguments: str | Path, **given: str) -> Result:
        return CliRunner().invoke(main, ["pull", *map(str, arguments)], env=environment | given)

    return run


@pytest.fixture
def pull_alone(environment, command) -> Pull:
    """Run the command in a process of its own, where every variable of huggingface_hub counts."""

    def run(*arguments: str | Path, **given: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)],
            env=environment | given, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run
