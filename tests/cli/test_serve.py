"""The command line around the server."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import main


def test_help_prints_the_settings_table_with_values_in_force(monkeypatch):
    """`serve --help` lists every variable with the value it has now."""
    monkeypatch.setenv("BATCH_SIZE", "17")
    result = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert "BATCH_SIZE / ENABLE_BATCHING / BATCH_WINDOW_MAX_SIZE" in result.output
    assert "[17]" in result.output


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
