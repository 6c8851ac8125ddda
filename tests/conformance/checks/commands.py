"""Commands of `siglip-edge` and of the checkout."""

from __future__ import annotations

import json
import subprocess
import sys

from siglip_edge.runtime.artifacts.manifest import Manifest
from tests.conformance.servers import MODEL, Servers, command
from tests.server.conftest import ROOT


def tune(servers: Servers) -> None:
    """`tune` times the plans on this machine and keeps the best."""
    done = command("tune", str(MODEL), "--budget", "5", CACHE_DIR=str(servers.folder / "tuned"))
    assert done.returncode == 0, done.stderr
    assert "Kept: tuned here" in done.stdout


def doctor(_: Servers) -> None:
    done = command("doctor", str(MODEL), "--json")
    assert json.loads(done.stdout)["right"] is True


def device_that_is_not_here(_: Servers) -> None:
    """`doctor --device cuda` names the environment that is needed."""
    done = command("doctor", str(MODEL), "--device", "cuda")
    assert done.returncode == 1
    assert "siglip-edge[cuda]" in done.stdout


def evaluate(_: Servers, precision: str) -> None:
    """The shipped model in this precision on its held-out pictures."""
    done = command(
        "evaluate",
        str(MODEL),
        "--data",
        "demo/heldout",
        "--template",
        "{}",
        "--precision",
        precision,
        "--rounds",
        "0",
        "--json",
        "-",
    )
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(done.stdout)["models"]
    assert measured["precision"] == precision
    assert measured["figures"]["top-1"]["value"] > 0.5


def export(servers: Servers, precision: str) -> None:
    """The demo checkpoint, exported in this precision and verified."""
    folder = servers.folder / "exported"
    done = command(
        "export", "demo/checkpoint", "-o", str(folder), "--precision", precision, "--ranges", "min-max",
        "--no-report", "--overwrite", timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Manifest.load(folder / "checkpoint").precisions()


def make_target(_: Servers, *targets: str) -> None:
    """The Makefile has these targets."""
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def module(_: Servers, name: str) -> None:
    """A program of the checkout answers `--help`."""
    done = subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def help_of(_: Servers, name: str, option: str) -> None:
    """The subcommand has this option."""
    done = command(name, "--help")
    assert option in done.stdout
