"""`siglip-edge bench`: the whole run, at its shortest."""

import json
import subprocess
import sys
import traceback

import pytest
from click.testing import CliRunner

from siglip_edge.bench.results import OURS
from siglip_edge.cli.main import main
from tests.tiny_model import write_model


def bench(*arguments: object):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.slow
def test_one_command_measures_and_judges_everything(model, tmp_path):
    """Real servers, one and two workers, bare session calls; a table, JSON and a picture of the same run."""
    pytest.importorskip("matplotlib")
    result = bench(model, "--quick", "--json", tmp_path / "run.json", "--plot", tmp_path / "run.png", "--markdown")
    assert result.exit_code == 0, (result.output, traceback.format_exception(result.exception))
    run = json.loads((tmp_path / "run.json").read_text())
    table = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == [row["figure"] for row in run["rows"]]
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    for kind in ("images", "texts"):
        assert run["agreement"][kind] == pytest.approx({OURS: 1.0})
        assert run["load"][kind][OURS]["cpu"] > run["load"][kind][OURS]["client_cpu"] > 0
        assert run["bare"][kind]["cpu"] > 0
        assert run["load"][kind][OURS]["refused"] == 0 < run["levels"][kind]["128"]["requests"]
    assert [len(run["memory"][name]["at_rest"]) for name in run["memory"]] == [2, 2, 3]
    assert run["memory"][OURS]["requests"] == run["effort"]["requests"]


def test_infinity_needs_a_checkpoint(model):
    result = bench(model, "--infinity", sys.executable)
    assert result.exit_code == 2
    assert "--against" in result.output


def test_a_folder_without_photographs_is_refused(model, tmp_path):
    """Before anything is measured."""
    result = bench(model, "--photos", tmp_path)
    assert result.exit_code == 2
    assert "no *.jpg here" in result.output


def test_a_server_that_does_not_start_is_shown(tmp_path):
    """What it said, instead of a traceback."""
    result = bench(tmp_path, "--quick")
    assert result.exit_code == 1
    assert "manifest.json" in result.output


def test_until_memory_has_been_read_nothing_is_mapped_that_a_server_maps():
    """Shared pages would count in neither's private memory."""
    program = "import sys, siglip_edge.bench.run, cli.bench; print(sorted({'numpy', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
