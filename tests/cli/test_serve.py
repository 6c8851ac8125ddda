"""The command line around the server."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import main


def test_help_prints_the_settings_table_with_values_in_force(monkeypatch):
    """`serve --help` lists every flag, variable and alias with the value that the setting has now."""
    monkeypatch.setenv("BATCH_SIZE", "17")
    result = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "--batch-size, BATCH_SIZE, ENABLE_BATCHING, BATCH_WINDOW_MAX_SIZE" in result.output
    assert "--config, MODEL_CONFIG" in result.output
    assert "--api-keys," not in result.output
    assert "[17]" in result.output


def test_a_flag_takes_the_place_of_every_name_of_its_setting(monkeypatch):
    """Simple Inference Server's flags, and one per setting; a wrong value stops the start."""
    monkeypatch.setattr("os.environ", {**os.environ, "MODEL_DEVICE": "cuda", "BATCH_WINDOW_MS": "5"})
    given: dict[str, str] = {}
    monkeypatch.setattr(
        "siglip_edge.server.gunicorn.preflight.checked_settings",
        lambda: given.update(os.environ) or sys.exit(7),
    )
    flags = ["--models", "a=/m/a,b=/m/b", "--device", "cpu", "--config", "models.yaml", "--batch-wait-time-ms", "2"]
    assert CliRunner().invoke(main, ["serve", *flags]).exit_code == 7
    assert (given["MODELS"], given["DEVICE"], given["MODEL_CONFIG"]) == ("a=/m/a,b=/m/b", "cpu", "models.yaml")
    assert given["BATCH_WAIT_TIME_MS"] == "2"
    assert not {"MODEL_DEVICE", "BATCH_WINDOW_MS"} & set(given)


@pytest.mark.parametrize(
    ("flags", "set_now"), [(["/m/x"], {"MODEL": "/m/x"}), (["--models", "/m/x"], {"MODELS": "/m/x"})]
)
def test_a_model_on_the_command_line_is_served_whatever_the_environment_lists(monkeypatch, flags, set_now):
    """MODEL and MODELS of the environment both give way."""
    monkeypatch.setattr("os.environ", {**os.environ, "SIGLIP_MODEL": "a", "MODELS": "b,c"})
    given: dict[str, str] = {}
    monkeypatch.setattr(
        "siglip_edge.server.gunicorn.preflight.checked_settings", lambda: given.update(os.environ) or sys.exit(7)
    )
    assert CliRunner().invoke(main, ["serve", *flags]).exit_code == 7
    assert {name: given[name] for name in ("MODEL", "SIGLIP_MODEL", "MODELS") if name in given} == set_now


def test_two_models_as_the_only_one_are_a_contradiction():
    """The argument MODEL and the flag --model."""
    result = CliRunner().invoke(main, ["serve", "a", "--model", "b"])
    assert result.exit_code == 2
    assert "MODEL and --model name two models" in result.output


def test_a_wrong_value_stops_the_start_with_one_sentence(monkeypatch):
    """The sentence names the variable, the value and what is allowed."""
    monkeypatch.setenv("PORT", "eighty")
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 1
    assert result.output == "Error: PORT='eighty' cannot be read; allowed: a whole number from 0 to 65535\n"


@pytest.mark.parametrize("module", ["torch", "transformers", "numpy", "onnxruntime"])
def test_serve_imports_nothing_heavy(module):
    """Before gunicorn takes over, `siglip-edge serve` has loaded neither torch nor anything numeric."""
    code = (
        "import sys; from click.testing import CliRunner; from siglip_edge.cli.main import main; "
        f"CliRunner().invoke(main, ['serve', '--help']); sys.exit({module!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
