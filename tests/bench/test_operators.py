"""The comparison of a model directory's graphs, on the demo model."""

import re
import sys
from pathlib import Path

from siglip_edge.bench import operators

MODEL = Path(__file__).parents[2] / "quantized_models/emoji-siglip"


def test_precisions_take_turns_and_int8_runs_on_integer_kernels(monkeypatch, capsys):
    """The table has one line per precision, and shows that INT8 fuses its linear layers to integer products."""
    monkeypatch.setattr(sys, "argv", ["operators", str(MODEL), "--tower", "text", "--forwards", "2"])
    operators.main()
    times, fp16, int8, int4 = re.split(r"^\w+: ", capsys.readouterr().out, flags=re.MULTILINE)
    assert [line.split()[0] for line in times.splitlines()[1:]] == ["fp16", "int8", "int4"]
    assert "MatMulIntegerToFloat" in int8
    assert "MatMulIntegerToFloat" not in fp16
    assert "MatMulNBits" in int4
