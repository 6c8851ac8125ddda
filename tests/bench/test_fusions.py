"""The hand-made fusions compute the same vectors as the exported graph, so that their times can be compared."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from siglip_edge.bench.fusions import BIASED, FUSIONS
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.scoring import l2_normalize

MODEL = Path(__file__).parents[2] / "quantized_models/emoji-siglip"
OPERATOR = {
    "attention": "Attention",
    "multi-head": "MultiHeadAttention",
    "skip-norm": "SkipLayerNormalization",
    "bias": "Gemm",
}


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fused_graph_computes_the_same(name, tmp_path):
    """The operator is there, six layers of it or more, and the vectors are those of the exported graph."""
    path = MODEL / Manifest.load(MODEL).artifact(*BIASED).graph.path
    fused = FUSIONS[name](onnx.load(path))
    assert sum(node.op_type == OPERATOR[name] for node in fused.graph.node) >= 6
    onnx.save(fused, tmp_path / "fused.onnx")
    plan = serving_plan(Precision.INT8, threads=1)
    original, changed = GraphSession(path, plan), GraphSession(tmp_path / "fused.onnx", plan)
    row = original.noise()
    cosine = np.sum(l2_normalize(original.run(row)) * l2_normalize(changed.run(row)))
    assert cosine > 0.999
