"""Text encoders read from the ONNX graphs of hubs: without torch, and in the space of an export from the weights."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from transformers import AutoModel

from siglip_edge.bench.checkpoint import write_tiny
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.export import Order, export
from siglip_edge.exporter.families import family_of
from siglip_edge.exporter.families.onnx_text.family import OnnxTextEncoder
from siglip_edge.exporter.families.text.family import TextEncoder
from siglip_edge.runtime.artifacts.manifest import Manifest, Precision
from tests.cli.pulling.hub_server import serving_hub
from tests.exporter.families.agreement import TEXTS, changed, cosines, served

HARD = [text for text in TEXTS if "pad>" not in text.lower()] + ["a long text " * 200]
WEIGHTS = "model.safetensors"
OPSETS = {"minilm": 14, "bge-m3": 18}
"""Before opset 17, a LayerNorm is eight operators."""
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "optimum")))  # an import of None raises ImportError
from siglip_edge.cli.main import main
main(sys.argv[1:])
"""


def write(directory: Path, name: str) -> Path:
    """A checkpoint with weights and with the graph that Optimum makes of them."""
    from optimum.exporters.onnx import onnx_export_from_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, on saving, and the tracer's
        write_tiny(directory, name)
        model = AutoModel.from_pretrained(directory)
        options = {"task": "feature-extraction", "do_validation": False, "opset": OPSETS[name]}
        onnx_export_from_model(model, directory / "onnx", **options)
    return directory


@pytest.fixture(scope="session")
def published(folder_of_the_run: Path) -> Callable[[str], Path]:
    def written(name: str) -> Path:
        directory = folder_of_the_run / "published" / name
        with FileLock(folder_of_the_run / f"{name}.published.lock"):
            return directory if directory.exists() else write(directory, name)

    return written


@pytest.fixture
def graph_alone(published, tmp_path) -> Path:
    """A checkpoint without weights of torch."""
    return shutil.copytree(published("minilm"), tmp_path / "alone", ignore=shutil.ignore_patterns(WEIGHTS))


def exported_both_ways(checkpoint: Path, output: Path, precisions: list[Precision]) -> list[Path]:
    """By its graph, and by its weights."""
    order = Order(source=str(checkpoint), output=output, precisions=precisions, report=False)
    return [export(replace(order, name=name, from_onnx=name == "graph")) for name in ("graph", "weights")]


@pytest.mark.parametrize("name", OPSETS)
def test_both_exports_are_of_one_space_and_agree(published, tmp_path, name):
    """BERT with a mean; XLM-R with its first token, positions behind the padding's, and attention in blocks."""
    both = exported_both_ways(published(name), tmp_path, [Precision.FP32, Precision.INT8])
    by_graph, by_weights = map(Manifest.load, both)
    assert by_graph.space_id == by_weights.space_id
    assert by_graph.family == by_weights.family == "text"
    exact = [served(directory, Precision.FP32).embed_texts(HARD) for directory in both]
    assert cosines(*exact).min() >= 0.99999
    rounded = served(both[0], Precision.INT8)
    assert cosines(rounded.embed_texts(HARD), exact[1]).mean() >= 0.99
    alone = np.vstack([rounded.embed_texts([text]) for text in HARD])
    assert np.array_equal(rounded.embed_texts(HARD), alone)


def test_dense_layers_and_the_last_token(published, tmp_path):
    """One layer with a bias and an activation, rows of length one between, one without either."""
    checkpoint = shutil.copytree(published("minilm"), tmp_path / "dense")
    pooling = {"word_embedding_dimension": 64, "pooling_mode_lasttoken": True}
    (checkpoint / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = ["Transformer", "Pooling", "Dense", "Normalize", "Dense", "Normalize"]
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    (checkpoint / "modules.json").write_text(json.dumps(modules))
    write_dense(checkpoint / "2_Dense", 64, 48, "activation.Tanh", bias=True)
    write_dense(checkpoint / "4_Dense", 48, 32, "linear.Identity", bias=False)
    both = exported_both_ways(checkpoint, tmp_path, [Precision.FP32])
    assert Manifest.load(both[0]).space_id == Manifest.load(both[1]).space_id
    left, right = (served(directory, Precision.FP32).embed_texts(HARD) for directory in both)
    assert left.shape == (len(HARD), 32)
    assert cosines(left, right).min() >= 0.99999


def write_dense(folder: Path, inputs: int, outputs: int, activation: str, *, bias: bool) -> None:
    folder.mkdir()
    config = {"in_features": inputs, "out_features": outputs, "bias": bias}
    activated = {"activation_function": f"torch.nn.modules.{activation}"}
    (folder / "config.json").write_text(json.dumps(config | activated))
    rng = np.random.default_rng(outputs)
    tensors = {"linear.weight": rng.standard_normal((outputs, inputs)).astype(np.float32)}
    if bias:
        tensors["linear.bias"] = rng.standard_normal(outputs).astype(np.float32)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize("place", ["directory", "hub"])
def test_torch_transformers_and_optimum_are_not_needed(published, tmp_path, place):
    """Of a repository on a hub, its weights are not even fetched."""
    checkpoint = published("minilm")
    with serving_hub(checkpoint, "somebody/minilm") as hub:
        source = str(checkpoint) if place == "directory" else hub.repository
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        arguments = ["export", source, "-o", str(tmp_path), "--name", "made", "--precision", "fp32,fp16,int8"]
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *arguments],
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        fetched = {path.rpartition("/")[2] for _, path, _ in hub.requests}
    assert done.returncode == 0, done.stderr
    assert WEIGHTS not in fetched
    assert ("model.onnx" in fetched) == (place == "hub")
    manifest = Manifest.load(tmp_path / "made")
    assert (manifest.source, manifest.dimensions) == ("minilm" if place == "directory" else "somebody/minilm", 64)
    assert served(tmp_path / "made", Precision.INT8).embed_texts(HARD).shape == (len(HARD), 64)


def test_a_graph_is_read_where_there_are_no_weights_or_it_is_asked_for(published, graph_alone):
    assert isinstance(family_of(str(graph_alone)), OnnxTextEncoder)
    assert isinstance(family_of(str(published("minilm"))), TextEncoder)
    assert isinstance(family_of(str(published("minilm")), from_onnx=True), OnnxTextEncoder)


def test_a_graph_of_sentence_transformers_is_read(graph_alone):
    """Its hidden rows have another name, and its own pooling is another output."""

    def change(model: onnx.ModelProto) -> None:
        another_output(model, "token_embeddings")
        axes = numpy_helper.from_array(np.array([1]), "axes")
        model.graph.initializer.append(axes)
        pooled = helper.make_node("ReduceSum", ["token_embeddings", "axes"], ["sentence_embedding"], "pool")
        model.graph.node.append(pooled)
        model.graph.output.append(helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, None))

    assert OnnxTextEncoder().open(with_graph(graph_alone, change)).dimensions == 64


# -- refused in words --------------------------------------------------------------------------------------------------


def with_graph(checkpoint: Path, change: Callable[[onnx.ModelProto], None]) -> str:
    path = checkpoint / "onnx" / "model.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return str(checkpoint)


def of_another_domain(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Softmax").domain = "com.microsoft"


def another_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, (1,)))


def another_output(model: onnx.ModelProto, called: str = "logits") -> None:
    for node in model.graph.node:
        node.output[:] = [called if name == "last_hidden_state" else name for name in node.output]
    model.graph.output[0].name = called


def another_term(model: onnx.ModelProto) -> None:
    """Something that is added to attention's products, as MPNet does."""
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 1, 1), np.float32), "distances"))
    at = list(model.graph.node).index(softmax)
    model.graph.node.insert(at, helper.make_node("Add", [softmax.input[0], "distances"], ["nearer"], "nearer"))
    softmax.input[0] = "nearer"


def half_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "half"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_another_domain, "operators of com.microsoft"),
        (another_input, "takes .*pixel_values"),
        (another_output, "gives logits"),
        (another_term, "weight distances has no place"),
        (half_weights, "16 bits"),
    ],
)
def test_other_graphs_are_refused(graph_alone, change, reason):
    with pytest.raises(ExportError, match=reason):
        OnnxTextEncoder().open(with_graph(graph_alone, change))


def test_a_graph_without_its_weights_is_refused(graph_alone):
    path = graph_alone / "onnx" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    assert OnnxTextEncoder().open(str(graph_alone)).dimensions == 64
    (path.parent / "model.onnx_data").unlink()
    with pytest.raises(ExportError, match=r"cannot load model\.onnx"):
        OnnxTextEncoder().open(str(graph_alone))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", {"model_type": "mpnet"}, "model type 'mpnet' are not read"),
        ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("config.json", {"max_position_embeddings": 17}, "none that config.json describes"),
        ("tokenizer_config.json", {"do_lower_case": False}, "do_lower_case = False"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "on the left"),
    ],
)
def test_other_descriptions_are_refused(graph_alone, tmp_path, file, content, reason):
    checkpoint = changed(graph_alone, tmp_path / "changed", file, lambda given: given | content)
    with pytest.raises(ExportError, match=reason):
        OnnxTextEncoder().open(str(checkpoint))


def times_100(operator: str) -> Callable[[onnx.ModelProto], None]:
    """The first input of the first such operator is made larger."""

    def change(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == operator)
        model.graph.initializer.append(numpy_helper.from_array(np.array(100, np.float32), "factor"))
        larger = helper.make_node("Mul", [node.input[0], "factor"], ["larger"], "larger")
        model.graph.node.insert(list(model.graph.node).index(node), larger)
        node.input[0] = "larger"

    return change


@pytest.mark.parametrize("operator", ["Softmax", "Erf"])
def test_what_the_reader_passes_over_is_compared(graph_alone, tmp_path, operator):
    """A scale of attention, or a form of GELU, that is not BERT's."""
    checkpoint = with_graph(graph_alone, times_100(operator))
    with pytest.raises(ExportError, match=r"differs from it|activation"):
        export(Order(source=checkpoint, output=tmp_path / "out", precisions=[Precision.FP32], report=False))


def test_without_a_graph_the_remedy_is_the_other_extra(graph_alone):
    shutil.rmtree(graph_alone / "onnx")
    with pytest.raises(ExportError, match=r"no ONNX graph.*export\]"):
        OnnxTextEncoder().open(str(graph_alone))
