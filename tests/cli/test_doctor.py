"""`siglip-edge doctor`: a verdict, the machine, the plan, and what to change."""

import dataclasses
import json
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from siglip_edge.cli.doctor import advise
from siglip_edge.cli.main import main
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.checks.selftest import GoldenRow, load_golden, save_golden
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.machine.cpu import CpuBudget
from tests.tiny_model import add_precision, collapse, write_model
from tests.tiny_text_model import write_text_encoder

BOX = CpuBudget(logical=4, physical=4, usable=4, quota=None, memory=8 << 30, isa=("avx2", "avx_vnni"))


@pytest.fixture
def directory(tmp_path):
    return write_model(tmp_path / "tiny")


def doctor(*arguments: object):
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)])


def test_a_model_that_answers_rightly_is_told_so(directory):
    result = doctor(directory, "--device", "cpu")
    assert result.exit_code == 0
    assert "right: worst cosine to FP32" in result.output
    assert "int8 on CPUExecutionProvider" in result.output


def test_programs_get_json(directory):
    findings = json.loads(doctor(directory, "--json").output)
    assert findings["right"] is True
    assert findings["row_ms"].keys() == {"vision", "text"}
    assert findings["resident_mb"] >= 0


def test_a_model_that_answers_wrongly_is_refused(directory):
    """Golden rows that the session does not reproduce: exit status 1 and the sentence of the self-test."""
    manifest = Manifest.load(directory)
    (row,) = load_golden(directory, manifest)
    assert manifest.golden is not None
    path = directory / manifest.golden.path
    save_golden(path, [GoldenRow(text="another text entirely", embedding=row.embedding)])
    msgspec.structs.replace(manifest, golden=record_file(directory, path)).save(directory)
    result = doctor(directory)
    assert result.exit_code == 1
    assert "WRONG: tiny: the text tower" in result.output


def test_what_is_refused_is_told_with_what_serves_instead(directory):
    """INT8 collapsed, FP32 right: it may be served, and the sentence about INT8 is there."""
    collapse(add_precision(directory, Precision.FP32), Precision.INT8)
    result = doctor(directory, "--device", "cpu")
    assert result.exit_code == 0
    assert "fp32 on CPUExecutionProvider" in result.output
    assert "refused   int8 on CPUExecutionProvider: tiny: the text tower" in result.output


def test_a_directory_without_a_model_is_named(tmp_path):
    result = doctor(tmp_path)
    assert result.exit_code == 1
    assert "it has no manifest.json; make one elsewhere: siglip-edge export" in result.output


def test_a_precision_that_is_not_there_is_named(directory):
    result = doctor(directory, "--precision", "fp16")
    assert result.exit_code == 1
    assert "no fp16 artifacts (it has int8)" in result.output


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ({"quota": 1.5}, "a quota of 1.5 CPUs"),
        ({"isa": ("avx2",)}, "no 8-bit dot product"),
        ({"memory": 1 << 10}, "grant more memory"),
    ],
)
def test_advice_follows_from_the_machine(directory, box, sentence):
    """Each limit has its sentence; a machine without limits gets none."""
    manifest = Manifest.load(directory)
    planned = plan([CPU], BOX, manifest, Wishes(precision=Precision.INT8))
    assert advise(BOX, manifest, planned) == []
    (advice,) = advise(dataclasses.replace(BOX, **box), manifest, planned)
    assert sentence in advice


@pytest.mark.parametrize("module", ["torch", "onnx", "transformers"])
def test_doctor_runs_where_only_serving_is_installed(directory, module):
    code = (
        "import sys; from click.testing import CliRunner; from siglip_edge.cli.main import main; "
        f"CliRunner().invoke(main, ['doctor', {str(directory)!r}]); sys.exit({module!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_text_encoder_is_timed_at_each_usual_length(tmp_path):
    """A query of sixteen tokens, a passage of 128 and a page of 512, where the model has rows of that length."""
    encoder = write_text_encoder(tmp_path / "encoder", lengths=(8, 16, 128, 512, 8192))
    findings = json.loads(doctor(encoder, "--json").stdout)
    assert list(findings["row_ms"]) == ["text of 16 tokens", "text of 128 tokens", "text of 512 tokens"]
