"""Writes a complete model directory in milliseconds: ONNX graphs of one linear layer, a tokenizer, a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import (
    FORMAT_VERSION,
    Artifact,
    Fidelity,
    Manifest,
    Precision,
    Sigmoid,
    Squash,
    TextTower,
    Tower,
    Towers,
    VisionTower,
    VocabularySpec,
)
from siglip_edge.runtime.checks.selftest import GoldenRow, save_golden
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.text.vocabulary import write_vocabulary

SIZE, PATCH, LENGTH, WIDTH, DIMENSIONS = 16, 8, 16, 8, 12
PAD, EOS = 0, 1


def write_model(directory: Path, *, name: str = "tiny", space_id: str = "tiny-space", seed: int = 0) -> Path:
    """Write a valid model directory and return it. Its vectors depend on every pixel and every token's position."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    text_graph = _linear("token_embeddings", TensorProto.FLOAT, (LENGTH, WIDTH), rng)
    vision_graph = _linear("pixel_values", TensorProto.UINT8, (3, SIZE, SIZE), rng)
    onnx.save(text_graph, directory / "text_int8.onnx")
    onnx.save(vision_graph, directory / "vision_int8.onnx")
    rows = _write_tokenizer(directory / "tokenizer.json")
    with (directory / "vocabulary_int8.bin").open("wb") as file:
        write_vocabulary(file, rng.standard_normal((rows, WIDTH)).astype(np.float32), "int8")
    _manifest(directory, name, space_id, rows).save(directory)
    _add_golden(directory)
    return directory


def add_precision(directory: Path, precision: Precision) -> Path:
    """Add a precision: copies of the INT8 graphs, which compute in float32 in this model. -> `directory`."""
    manifest = Manifest.load(directory)

    def added(tower: Tower, artifacts: dict[Precision, Artifact]) -> dict[Precision, Artifact]:
        artifact, path = artifacts[Precision.INT8], directory / f"{tower}_{precision}.onnx"
        path.write_bytes((directory / artifact.graph.path).read_bytes())
        return artifacts | {precision: msgspec.structs.replace(artifact, graph=record_file(directory, path))}

    change_artifacts(manifest, added).save(directory)
    return directory


def change_artifacts(
    manifest: Manifest, change: Callable[[Tower, dict[Precision, Artifact]], dict[Precision, Artifact]]
) -> Manifest:
    """The manifest with other artifacts per tower: `change(tower, artifacts)` returns the new artifacts."""
    towers = {
        tower: msgspec.structs.replace(spec, artifacts=change(tower, spec.artifacts))
        for tower in manifest.tower_names
        for spec in [manifest.tower(tower)]
    }
    return msgspec.structs.replace(manifest, towers=msgspec.structs.replace(manifest.towers, **towers))


def collapse(directory: Path, precision: Precision) -> None:
    """Set the text tower's weights to zero and update the manifest: a valid directory that gives wrong embeddings."""
    rewrite(directory, f"text_{precision}.onnx", np.zeros_like)


def rewrite(directory: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change a graph's weights and its record in the manifest. Its input axes become dynamic, so any shape loads."""
    graph = onnx.load(directory / name)
    for number, dim in enumerate(graph.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"d{number}"
    (weights,) = graph.graph.initializer
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    onnx.save(graph, directory / name)
    manifest = Manifest.load(directory)

    def recorded(_: Tower, artifacts: dict[Precision, Artifact]) -> dict[Precision, Artifact]:
        return {
            precision: msgspec.structs.replace(one, graph=record_file(directory, directory / one.graph.path))
            for precision, one in artifacts.items()
        }

    change_artifacts(manifest, recorded).save(directory)


def _add_golden(directory: Path) -> None:
    """Add one golden text, embedded by the model itself, for the self-test to compare with."""
    manifest = Manifest.load(directory)
    plan = ExecutionPlan(provider=CPU, precision=Precision.INT8, intra_op_threads=1, reason="golden")
    embedding = EmbeddingModel.load(directory, plan).embed_texts(["a golden text"])[0]
    save_golden(directory / "golden.bin", [GoldenRow(embedding=embedding.tobytes(), text="a golden text")])
    msgspec.structs.replace(manifest, golden=record_file(directory, directory / "golden.bin")).save(directory)


def _linear(name: str, dtype: int, shape: tuple[int, ...], rng: np.random.Generator) -> onnx.ModelProto:
    weights = rng.standard_normal((int(np.prod(shape)), DIMENSIONS)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [name], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["pooled"]),
        ],
        name,
        [helper.make_tensor_value_info(name, dtype, ("n", *shape))],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ("n", DIMENSIONS))],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _write_tokenizer(path: Path) -> int:
    alphabet = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {piece: index for index, piece in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", EOS)])
    tokenizer.save(str(path))
    return len(vocabulary)


def _manifest(directory: Path, name: str, space_id: str, rows: int) -> Manifest:
    fidelity = Fidelity(rows=1, mean_cosine=1.0, min_cosine=1.0, retrieval_agreement=1.0)
    table = record_file(directory, directory / "vocabulary_int8.bin")

    def artifact(tower: Tower, vocabulary: VocabularySpec | None = None) -> dict[Precision, Artifact]:
        graph = record_file(directory, directory / f"{tower}_int8.onnx")
        return {Precision.INT8: Artifact(graph=graph, vocabulary=vocabulary, fidelity=fidelity)}

    vision = VisionTower(
        geometry=Squash(size=SIZE, patch_size=PATCH),
        resample="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        artifacts=artifact(Tower.VISION),
    )
    text = TextTower(
        length=LENGTH,
        pad_id=PAD,
        suffix_ids=(EOS,),
        lowercase=True,
        tokenizer=record_file(directory, directory / "tokenizer.json"),
        artifacts=artifact(Tower.TEXT, VocabularySpec(file=table, dtype="int8", rows=rows, width=WIDTH)),
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        family="siglip",
        source="tests/tiny_model.py",
        dimensions=DIMENSIONS,
        towers=Towers(vision=vision, text=text),
        scoring=Sigmoid(scale=10.0, bias=-2.0),
        zero_shot_template="This is a photo of {}.",
        space_id=space_id,
    )
