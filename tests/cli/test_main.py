"""The command line as a whole: its commands, its version, and what it says when a library is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import COMMANDS, EXTRAS, main
from siglip_edge.cli.prepare import command as prepare

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_that_of_pyproject():
    """One source of the version: the rest of the project reads it from the installed package."""
    assert version("siglip-edge") == PROJECT["version"]
    assert CliRunner().invoke(main, ["--version"], prog_name="siglip-edge").output == (
        f"siglip-edge, version {PROJECT['version']}\n"
    )


def test_help_lists_the_commands_in_the_order_of_use():
    """From a checkpoint to a server that is watched, a sentence each."""
    lines = CliRunner().invoke(main, ["--help"]).output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line.endswith(".") for line in lines)


def test_help_imports_no_command():
    """`siglip-edge --help` works where no wheel of onnxruntime is installed, and at once."""
    code = (
        "import sys; from click.testing import CliRunner; from siglip_edge.cli.main import main; "
        "CliRunner().invoke(main, ['--help']); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_as_in_the_list(name):
    """The module of every entry holds a click command of that name."""
    assert importlib.import_module(COMMANDS[name].module).command.name in {name, "command"}


def test_a_missing_library_is_one_sentence(monkeypatch):
    """It names the extra that installs the library."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "siglip_edge.runtime.execution.session", raising=False)
    monkeypatch.delitem(sys.modules, "siglip_edge.cli.doctor", raising=False)
    result = CliRunner().invoke(main, ["doctor", "anywhere"])
    assert (result.exit_code, result.output) == (
        1, "Error: onnxruntime is not installed; pip install 'siglip-edge[cpu]'\n",
    )  # fmt: skip


def test_serve_without_onnxruntime_is_one_sentence(monkeypatch, tmp_path):
    """Found before any process is started."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = CliRunner().invoke(main, ["serve", str(ROOT / "quantized_models/emoji-siglip")])
    assert (result.exit_code, result.output) == (
        1, "Error: onnxruntime is not installed; pip install 'siglip-edge[cpu]' (or [cuda], or [openvino])\n",
    )  # fmt: skip


def test_an_error_of_ours_is_not_taken_for_a_missing_library(monkeypatch):
    """A module that no extra holds is a defect, and shows its traceback."""

    def broken(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(name="siglip_edge.nowhere")

    monkeypatch.setattr(prepare, "callback", broken)
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(main, ["prepare"], catch_exceptions=False)


def test_every_extra_that_a_sentence_names_holds_the_library():
    """`pip install 'siglip-edge[…]'` installs what was missing."""
    for library, extra in EXTRAS.items():
        assert any(line.startswith(library) for line in PROJECT["optional-dependencies"][extra]), library


def test_bench_is_of_a_checkout_only(monkeypatch):
    """An installed package has no `bench`: the list leaves it out, and asking for it says where it is."""
    monkeypatch.setitem(sys.modules, "siglip_edge.bench", None)
    assert "bench" not in CliRunner().invoke(main, ["--help"]).output
    result = CliRunner().invoke(main, ["bench", "anywhere"])
    assert (result.exit_code, result.output) == (
        1, "Error: bench needs a checkout of the project: run `make bench` there\n",
    )  # fmt: skip


def test_healthcheck_needs_a_port(monkeypatch):
    """With PORT=0 only the server's log knows the port."""
    monkeypatch.setenv("PORT", "0")
    result = CliRunner().invoke(main, ["healthcheck"])
    assert result.exit_code == 1
    assert result.output == "Error: PORT=0 lets the server take any free port; set the one that it listens on\n"
