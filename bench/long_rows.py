"""Memory and time of long texts: a tower of a released shape with random weights, in INT8, a length at a time.

    python -m siglip_edge.bench.long_rows FOLDER [--shape bge-m3] [--layers 24] [--lengths 512 8192]

The graph is written to FOLDER (bge-m3: 1.2 GB while it is made). Ranges come from two rows of noise, so its vectors
mean nothing; sizes, operators and memory are those of an exported model. The vocabulary is outside the graph.
The largest memory after each length is the kernel's, of a process that only serves. A short row runs before the long
one, while it runs, and after it: its bits must be the same.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

SHORT = 16


def write_graph(folder: Path, shape_name: str, layers: int) -> None:
    """Trace and quantize the tower: `FOLDER/text_int8.onnx`."""
    import torch
    import transformers

    from siglip_edge.bench.checkpoints.text import SHAPES
    from siglip_edge.exporter.calibration import observe
    from siglip_edge.exporter.families.text.layout import Layout, Pooling
    from siglip_edge.exporter.families.text.reference import SentenceModel
    from siglip_edge.exporter.families.text.towers import trace_model
    from siglip_edge.exporter.graphs import graph_files
    from siglip_edge.exporter.int8 import layer_quantization
    from siglip_edge.exporter.int8.qdq import linear_nodes, quantize

    shape = SHAPES[shape_name]
    config = {**shape.config, "num_hidden_layers": layers, "vocab_size": 1000}  # the graph has no vocabulary
    configuration = getattr(transformers, f"{shape.architecture}Config")(**config, attn_implementation="eager")
    transformer = getattr(transformers, f"{shape.architecture}Model")(configuration).eval()
    transformer.requires_grad_(requires_grad=False)
    layout = Layout(pooling=Pooling(shape.pooling))
    with torch.no_grad():
        trace_model(SentenceModel(transformer, layout), layout, shape.longest, folder / "traced.onnx")
    del transformer
    model = graph_files.simplify(folder / "traced.onnx")
    graph_files.remove(folder / "traced.onnx")
    tensors = sorted({node.input[0] for node in linear_nodes(model.graph)})
    rows = [inputs(64, int(shape.config["hidden_size"]), seed) for seed in range(2)]
    seen = observe(model, tensors, rows, len(rows), folder, sample=64)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    recipes = {
        node.name: layer_quantization.plain(seen[node.input[0]], _array(weights[node.input[1]]))
        for node in linear_nodes(model.graph)
    }
    graph_files.save(quantize(model, recipes), folder / "text_int8.onnx")


def _array(tensor: object) -> np.ndarray:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor))


def inputs(length: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """One row of noise."""
    embeddings = np.random.default_rng(seed).standard_normal((1, length, width), np.float32) * 0.02
    return {"token_embeddings": embeddings, "attention_mask": np.ones((1, length), np.int64)}


def serve(graph: Path, lengths: list[int]) -> None:
    """Run the lengths in order, in this process, and print its memory."""
    from siglip_edge.runtime.artifacts.manifest import Precision
    from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
    from siglip_edge.runtime.execution.session import GraphSession
    from siglip_edge.runtime.machine.memory import read_memory

    plan = ExecutionPlan(provider=CPU, precision=Precision.INT8, intra_op_threads=2, reason="measured")
    session = GraphSession(graph, plan)
    print(f"loaded: {_peak_mb():.0f} MB at most, {read_memory().private / 1e6:.0f} MB private now", flush=True)
    width = session.noise()["token_embeddings"].shape[-1]
    short = inputs(SHORT, width)
    alone = session.run(short)
    for length in lengths:
        row, neighbours = inputs(length, width), []
        thread = threading.Thread(target=session.run, args=(row,))
        started = time.monotonic()
        thread.start()
        while thread.is_alive():
            neighbours.append(np.array_equal(session.run(short), alone))
            thread.join(0.5)
        spent = time.monotonic() - started
        kept = read_memory().private / 1e6
        session.shrink()
        rested = read_memory().private / 1e6
        same = all(neighbours) and np.array_equal(session.run(short), alone)
        memory = f"{_peak_mb():.0f} MB at most, {kept:.0f} MB kept, {rested:.0f} MB at rest"
        beside = f"{len(neighbours)} short rows beside it: {'the same bits' if same else 'OTHER BITS'}"
        print(f"{length:5} tokens: {spent:6.1f} s; {memory}; {beside}", flush=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="bge-m3")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 8192])
    parser.add_argument("--step", choices=("write", "serve"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    graph = arguments.folder / "text_int8.onnx"
    if arguments.step == "write":
        write_graph(arguments.folder, arguments.shape, arguments.layers)
    elif arguments.step == "serve":
        serve(graph, arguments.lengths)
    else:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for step in ("write", "serve"):
            if step == "serve" or not graph.exists():
                subprocess.run([sys.executable, "-m", __spec__.name, *sys.argv[1:], "--step", step], check=True)


if __name__ == "__main__":
    main()
