"""The gate: what a naive quantizer makes of a SigLIP tower is refused, with the reason."""

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from siglip_edge.exporter.errors import FidelityError
from siglip_edge.exporter.verification import fidelity
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Squash, Tower
from siglip_edge.runtime.execution.session import GraphSession

RNG = np.random.default_rng(0)


class Rows(CalibrationDataReader):
    def __init__(self, rows: np.ndarray) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"pixel_values": row[None]}


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_tower_quantized_the_naive_way_is_refused_with_the_reason(exported, tmp_path, form):
    """onnxruntime's own quantizer on every MatMul: its fusion of the pooling head's products collapses the output."""
    graph, naive = exported / "vision_fp32.onnx", tmp_path / "naive.onnx"
    geometry = Manifest.load(exported).vision.geometry
    assert isinstance(geometry, Squash)
    size = geometry.size
    rows = RNG.integers(0, 256, (16, 3, size, size), np.uint8)
    quantize_static(
        graph,
        naive,
        Rows(rows),
        quant_format=form,
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    exact, collapsed = (
        GraphSession(path, serving_plan(Precision.INT8)).run({"pixel_values": rows}) for path in (graph, naive)
    )
    with pytest.raises(FidelityError, match=r"vision int8: cosine .* has collapsed to \de-\d+ of its size: .* linear"):
        fidelity.verify(exact, collapsed, Tower.VISION, Precision.INT8)


def test_not_a_number_is_refused_with_the_reason():
    exact = RNG.standard_normal((4, 8)).astype(np.float32)
    with pytest.raises(FidelityError, match="not finite"):
        fidelity.verify(exact, np.where(exact > 0, np.nan, exact), Tower.TEXT, Precision.FP16)


def test_what_is_close_enough_passes_with_its_figures():
    exact = RNG.standard_normal((4, 8)).astype(np.float32)
    measured = fidelity.verify(exact, exact * 1.0001, Tower.TEXT, Precision.INT8)
    assert measured.mean_cosine == pytest.approx(1.0)
    assert measured.retrieval_agreement == 1.0
