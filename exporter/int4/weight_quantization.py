"""FP32 graph -> INT4: linear layers' weights in 4 bits, in 8 where 4 lose too much; all else in float.

onnxruntime's MatMulNBits (domain com.microsoft) reads such weights; activations stay in float, so calibration only
shows which inputs the weights' errors meet. Its contract, with B = ceil(k / BLOCK) blocks per column, which a test
holds against the operator: codes (n, B, BLOCK · bits / 8) uint8, low bits first; scales (n, B) float32; zero points
(n, B · bits / 8 rounded up) uint8, packed like the codes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from siglip_edge.exporter.calibration import Observation, Progress
from siglip_edge.exporter.int4.gptq import BLOCK, Blocks, in_blocks
from siglip_edge.exporter.int8.qdq import drop_unused, linear_nodes
from siglip_edge.exporter.int8.search import Found, fewest_apart
from siglip_edge.exporter.search_ledger import Ledger
from siglip_edge.exporter.verification.trial import Trial

DOMAIN = "com.microsoft"

ACCURACY_LEVEL = {4: 1, 8: 4}
"""Bits -> 1: products and sums in float32; 4: activations in 8 bits, too, every 32 values of a row on a scale of their
own. In blocks of 32, 4-bit weights are no faster with int8 products, with VNNI or without (bench/older_cpu.c), and the
packed file is a fifth larger; for 8 bits there is no kernel with float32 products. Neither saturates on AVX2."""

POSITIONS = 2048
"""Positions of every activation that weights are rounded for, 600 MB for a base tower. In four bits the demo model's
text tower lost 0.022 with 512 positions of 120 texts, 0.015 to 0.017 with 6 144 of 384."""

BUDGET = 0.003
"""Loss (1 - mean cosine) above which layers are given 8 bits; the gate is at 0.005, on other rows."""

MOST_IN_8_BITS = 0.5
"""Share of the layers that may have 8 bits; with more, INT8 is the better artifact."""


class Roundings:
    """The linear layers of a tower, each rounded when it is asked for, once for a number of bits."""

    def __init__(self, model: onnx.ModelProto, seen: Mapping[str, Observation]) -> None:
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes = {node.name: node for node in linear_nodes(model.graph)}
        self._seen = seen
        self._done: dict[tuple[str, int], Blocks] = {}

    @property
    def names(self) -> list[str]:
        return list(self._nodes)

    def layer(self, name: str, bits: int = 4) -> Blocks:
        if (name, bits) not in self._done:
            activation, weight = self._nodes[name].input
            exact = numpy_helper.to_array(self._weights[weight])
            self._done[name, bits] = in_blocks(exact, self._seen[activation].sample, bits)
        return self._done[name, bits]

    def tower(self, wide: Collection[str] = ()) -> dict[str, Blocks]:
        """All layers; the layers named in `wide` have 8 bits."""
        return {name: self.layer(name, 8 if name in wide else 4) for name in self._nodes}


def search_bits(
    model: onnx.ModelProto, trial: Trial, seen: Mapping[str, Observation], ledger: Ledger, progress: Progress
) -> Found:
    """Quantize `trial.model`. `model`: the same with its weights; `seen`: every linear node's input activation."""
    roundings = Roundings(model, seen)
    for name in progress(roundings.names, "round to 4 bits"):
        roundings.layer(name)
    loss = trial.loss(roundings.tower())
    alone = {} if loss <= BUDGET else _alone(trial, roundings, ledger, progress)
    wide = _wide(trial, roundings, alone) if alone else []
    chosen = roundings.tower(wide)
    losses = {"4 bits": loss, "chosen": trial.loss(chosen) if wide else loss}
    return Found(model=quantize_weights(trial.model, chosen), details=_details(losses, chosen, alone, len(trial.rows)))


def _alone(trial: Trial, roundings: Roundings, ledger: Ledger, progress: Progress) -> dict[str, float]:
    """Layer -> the tower's loss with it alone in 4 bits."""
    return {
        name: ledger.measured(f"{trial.name}{name} 4 bits", partial(trial.loss, {name: roundings.layer(name)}))
        for name in progress(roundings.names, "measure sensitivity")
    }


def _wide(trial: Trial, roundings: Roundings, alone: Mapping[str, float]) -> list[str]:
    """The fewest layers to have 8 bits, first the layers with the greatest loss per saved byte."""
    costliest = sorted(alone, key=lambda name: alone[name] / roundings.layer(name).codes.size, reverse=True)
    return fewest_apart(costliest, MOST_IN_8_BITS, lambda names: trial.loss(roundings.tower(names)) <= BUDGET)


def quantize_weights(model: onnx.ModelProto, blocks: Mapping[str, Blocks]) -> onnx.ModelProto:
    """A copy in which the linear nodes that `blocks` names are MatMulNBits.

    The weights of `model` are not read, so they may be anywhere (`graph_files.bare`).
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    widths = {tensor.name: tensor.dims for tensor in graph.initializer}
    for node in linear_nodes(graph):
        if node.name in blocks:
            _replace(graph, node, widths[node.input[1]], blocks[node.name])
    drop_unused(graph)
    if not any(entry.domain == DOMAIN for entry in quantized.opset_import):
        quantized.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return quantized


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, shape: Sequence[int], blocks: Blocks) -> None:
    """MatMul of an activation with a matrix of `shape` (k, n) -> MatMulNBits, in place."""
    k, n = shape
    constants = {
        f"{node.name}/codes": packed(blocks.codes, blocks.bits).reshape(n, -1, BLOCK * blocks.bits // 8),
        f"{node.name}/scales": np.ascontiguousarray(blocks.scale.T),
        f"{node.name}/zero_points": packed(blocks.zero, blocks.bits),
    }
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    settings = {"K": k, "N": n, "bits": blocks.bits, "block_size": BLOCK, "accuracy_level": ACCURACY_LEVEL[blocks.bits]}
    inputs, outputs = [node.input[0], *constants], list(node.output)
    node.CopyFrom(helper.make_node("MatMulNBits", inputs, outputs, node.name, domain=DOMAIN, **settings))


def packed(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """(m, n) codes of 4 or 8 bits -> (n, bytes): two of 4 bits a byte, the first one low."""
    columns = np.ascontiguousarray(values.T)
    if bits == 8:
        return columns
    columns = np.pad(columns, ((0, 0), (0, len(values) % 2)))
    return np.asarray(columns[:, 0::2] | (columns[:, 1::2] << 4), np.uint8)


def _details(
    losses: Mapping[str, float], chosen: Mapping[str, Blocks], alone: Mapping[str, float], rows: int
) -> dict[str, Any]:
    """For the manifest: choice, alternatives and reason. Losses of single layers, where they were needed."""
    narrow = sum(blocks.bits == 4 for blocks in chosen.values())
    others = ", the others in 8" if narrow < len(chosen) else ""
    verdict = "within" if losses["chosen"] <= BUDGET else "above"
    return {
        "reason": f"{narrow} of {len(chosen)} linear layers in 4 bits{others}: loss {losses['chosen']:.1e} on "
        f"{rows} calibration rows, {verdict} the budget of {BUDGET}",
        "format": f"MatMulNBits: {BLOCK} weights of a column share a scale and a zero point; activations in float",
        "loss": {name: round(loss, 7) for name, loss in losses.items()},
        "layers": [
            {
                "name": name,
                "bits": blocks.bits,
                "output_error": round(blocks.error, 7),
                **({"loss": round(alone[name], 7)} if alone else {}),
                "megabytes": round(blocks.codes.size * blocks.bits / 8e6, 3),
            }
            for name, blocks in chosen.items()
        ],
    }
