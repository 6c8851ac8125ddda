"""Fusions that onnxruntime does not make by itself: made here, and timed beside the exported graph.

    python -m siglip_edge.bench.fusions MODEL [--tower vision] [--precision int8] [--forwards 15] [--threads 1]

attention       ONNX's Attention operator (opset 23) replaces everything between the split into heads and their merge
multi-head      onnxruntime's MultiHeadAttention replaces the same nodes
skip-norm       onnxruntime's SkipLayerNormalization replaces residual addition, bias and LayerNormalization
bias            vision INT8: the bias is added inside the matrix product (two-dimensional QGemm) instead of after it

The exported graphs contain none of them; reason and figures: docs/decisions/operators-every-provider-knows.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper, numpy_helper

from siglip_edge.bench.kernel_profile import by_operator, profile
from siglip_edge.bench.operators import show_times, take_turns
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision, Tower
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.scoring import l2_normalize

_ONNXRUNTIME = "com.microsoft"


def attention(model: onnx.ModelProto) -> onnx.ModelProto:
    heads, places = _attention_places(model.graph)
    counts = {"q_num_heads": heads, "kv_num_heads": heads, "scale": 1.0}
    fused = {
        merge: [helper.make_node("Attention", split.output, [output], f"{merge}/Fused", **counts)]
        for merge, (split, output) in places.items()
    }
    return _rewritten(model, fused, helper.make_opsetid("", 23))


def multi_head(model: onnx.ModelProto) -> onnx.ModelProto:
    heads, places = _attention_places(model.graph)
    fused = {
        merge: [_own("MultiHeadAttention", split.output, [output], f"{merge}/Fused", num_heads=heads, scale=1.0)]
        for merge, (split, output) in places.items()
    }
    return _rewritten(model, fused, helper.make_opsetid(_ONNXRUNTIME, 1))


def skip_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    made, constants = _producers(model.graph), {tensor.name for tensor in model.graph.initializer}
    fused: dict[str, list[onnx.NodeProto]] = {}
    for norm in model.graph.node:
        add = made.get(norm.input[0])
        if norm.op_type != "LayerNormalization" or add is None or add.op_type != "Add" or constants & {*add.input}:
            continue
        residual, branch = add.input
        bias = next((name for name in made[branch].input if name in constants), "")
        (summed,) = [name for name in made[branch].input if name != bias] if bias else [branch]
        (epsilon,) = (attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
        inputs, outputs = [residual, summed, *norm.input[1:], bias], [norm.output[0], "", "", add.output[0]]
        fused[norm.name] = [_own("SkipLayerNormalization", inputs, outputs, norm.name, epsilon=epsilon)]
        fused[add.name] = []
    return _rewritten(model, fused, helper.make_opsetid(_ONNXRUNTIME, 1))


def bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every quantized product over positions its bias as int32 codes, in the scale of the sums."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    made, constants = _producers(model.graph), {one.name: one for one in model.graph.initializer}
    fused: dict[str, list[onnx.NodeProto]] = {}
    for add in [node for node in model.graph.node if node.op_type == "Add"]:
        product = next((made[name] for name in add.input if name in made), add)
        if product.op_type != "MatMul" or product.name.startswith("/head") or not constants.keys() & {*add.input}:
            continue
        activation, weight = (made[name] for name in product.input)
        if weight.op_type != "DequantizeLinear":
            continue
        (name,) = constants.keys() & {*add.input}
        quantize = made[activation.input[0]]
        scale = numpy_helper.to_array(constants[quantize.input[1]]) * numpy_helper.to_array(constants[weight.input[1]])
        codes = np.rint(numpy_helper.to_array(constants[name]) / scale).astype(np.int32)
        own, (inputs, outputs) = product.name, constants[weight.input[0]].dims
        length = constants["positions"].dims[-2]
        for suffix, value in {
            "flat": np.array([-1, inputs]),
            "deep": np.array([-1, length, outputs]),
            "bias_codes": codes,
            "bias_scale": scale,
        }.items():
            model.graph.initializer.append(numpy_helper.from_array(value, f"{own}/{suffix}"))
        flat = helper.make_node("Reshape", [quantize.input[0], f"{own}/flat"], [f"{own}/rows"], f"{own}/Flatten")
        quantize.input[0] = f"{own}/rows"
        fused[quantize.name] = [flat, quantize]
        parts = [f"{own}/bias_codes", f"{own}/bias_scale"]
        fused[add.name] = [
            helper.make_node("DequantizeLinear", parts, [f"{own}/bias"], f"{own}/Bias", axis=0),
            helper.make_node("Gemm", [*product.input, f"{own}/bias"], [f"{own}/sums"], f"{own}/Gemm"),
            helper.make_node("Reshape", [f"{own}/sums", f"{own}/deep"], [add.output[0]], f"{own}/Deepen"),
        ]
    return _rewritten(model, fused)


FUSIONS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "attention": attention,
    "multi-head": multi_head,
    "skip-norm": skip_norm,
    "bias": bias,
}


BIASED = (Tower.VISION, Precision.INT8)
"""The only artifact for `bias`: it does not support the last layer of the text tower, which has one position."""


def _attention_places(graph: onnx.GraphProto) -> tuple[int, dict[str, tuple[onnx.NodeProto, str]]]:
    """-> number of heads; name of a merging node -> the node that splits queries, keys and values; merged output."""
    nodes = {node.name: node for node in graph.node}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == 7}
    places = {}
    for split in graph.node:
        if split.op_type == "Split" and len(split.output) == 3:
            layer = split.name.removesuffix("Split")
            places[f"{layer}Reshape_3"] = (split, nodes[f"{layer}Reshape_3"].output[0])
            heads = int(shapes[nodes[f"{layer}Reshape"].input[1]][2])
    return heads, places


def _own(operator: str, inputs: list[str], outputs: list[str], name: str, **attributes: float) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, name, domain=_ONNXRUNTIME, **attributes)


def _producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def _rewritten(
    model: onnx.ModelProto, fused: Mapping[str, list[onnx.NodeProto]], *opsets: onnx.OperatorSetIdProto
) -> onnx.ModelProto:
    """-> a copy with the named nodes replaced, and without nodes whose outputs nothing reads any longer."""
    nodes = [new for node in model.graph.node for new in fused.get(node.name, [node])]
    wanted, kept = {output.name for output in model.graph.output}, []
    for node in reversed(nodes):
        if wanted & {*node.output}:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            wanted.update(node.input)
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.node[:]
    copy.graph.node.extend(reversed(kept))
    versions = {entry.domain: entry.version for entry in (*model.opset_import, *opsets)}
    del copy.opset_import[:]
    copy.opset_import.extend(helper.make_opsetid(*entry) for entry in versions.items())
    return copy


def compare(graph: Path, precision: Precision, fusions: list[str], *, forwards: int, threads: int) -> None:
    """Print, for the exported graph and for each fusion: time, deviation, and the operators that really run."""
    plan, original = serving_plan(precision, threads), onnx.load(graph)
    sessions, operators = {"as exported": GraphSession(graph, plan)}, {}
    row = sessions["as exported"].noise()
    with TemporaryDirectory() as scratch:
        for name in fusions:
            path = Path(scratch, f"{name}.onnx")
            onnx.save(FUSIONS[name](original), path)
            sessions[name] = GraphSession(path, plan)
            operators[name] = by_operator(profile(path, plan, row, 1))
    show_times(take_turns(sessions, forwards), "as exported")
    exact = l2_normalize(sessions["as exported"].run(row))
    for name, counts in operators.items():
        loss = 1 - float((l2_normalize(sessions[name].run(row)) * exact).sum())
        shown = ", ".join(f"{count} {operator}" for operator, (count, _) in counts.items())
        print(f"  {name:12} 1 - cosine {loss:.1e}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tower", type=Tower, choices=list(Tower), default=Tower.VISION)
    parser.add_argument("--precision", type=Precision, choices=[Precision.INT8, Precision.FP32], default=Precision.INT8)
    parser.add_argument("--forwards", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    artifact = Manifest.load(arguments.model).artifact(arguments.tower, arguments.precision)
    print(
        f"{arguments.tower} {arguments.precision}, {arguments.threads} threads, {arguments.forwards} forwards, in turns"
    )
    graph = arguments.model / artifact.graph.path
    fusions = [name for name in FUSIONS if name != "bias" or (arguments.tower, arguments.precision) == BIASED]
    compare(graph, arguments.precision, fusions, forwards=arguments.forwards, threads=arguments.threads)


if __name__ == "__main__":
    main()
