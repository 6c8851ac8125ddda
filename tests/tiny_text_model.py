"""Writes model directories of other families in milliseconds: a text encoder with buckets and prompts, and a CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import (
    Artifact,
    Buckets,
    Cosine,
    Fidelity,
    Manifest,
    MatryoshkaSpec,
    Precision,
    ShortestSideCrop,
    Softmax,
    TextTower,
    Towers,
    VocabularySpec,
)
from siglip_edge.runtime.text.vocabulary import write_vocabulary
from tests.tiny_model import DIMENSIONS, EOS, PAD, PATCH, SIZE, WIDTH, write_model

LENGTHS = (4, 8, 16)
PROMPTS = {"query": "q: "}
RNG = np.random.default_rng(5)
TABLE = RNG.standard_normal((258, WIDTH)).astype(np.float32)
WEIGHTS = RNG.standard_normal((WIDTH, DIMENSIONS)).astype(np.float32)


def mean_pooling(weights: np.ndarray, *, vocabulary_inside: bool) -> onnx.ModelProto:
    """The mean of the embeddings of the tokens that the mask keeps, in DIMENSIONS dimensions."""
    look_up = [helper.make_node("Gather", ["table", "token_ids"], ["token_embeddings"])] if vocabulary_inside else []
    taken = (
        helper.make_tensor_value_info("token_ids", TensorProto.INT64, ("n", "tokens"))
        if vocabulary_inside
        else helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ("n", "tokens", WIDTH))
    )
    nodes = [
        *look_up,
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["weight"]),
        helper.make_node("Mul", ["token_embeddings", "weight"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["count"], keepdims=1),
        helper.make_node("MatMul", ["sum", "weights"], ["projected"]),
        helper.make_node("Div", ["projected", "count"], ["pooled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "text",
        [taken, helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ("n", "tokens"))],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ("n", DIMENSIONS))],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1]), "tokens"),
            numpy_helper.from_array(np.array([2]), "last"),
            *([numpy_helper.from_array(TABLE, "table")] if vocabulary_inside else []),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_text_encoder(
    directory: Path,
    *,
    table: np.ndarray = TABLE,
    weights: np.ndarray = WEIGHTS,
    vocabulary_inside: bool = False,
    lengths: tuple[int, ...] = LENGTHS,
    prompts: Mapping[str, str] = PROMPTS,
    default_prompt: str | None = None,
) -> Path:
    """A model directory of a text tower alone, as a sentence-transformers checkpoint becomes one."""
    manifest = Manifest.load(write_model(directory, name=directory.name, space_id=f"{directory.name}-space"))
    for name in ("text_int8.onnx", "vision_int8.onnx", "vocabulary_int8.bin", "golden.bin"):
        (directory / name).unlink()
    graph, outside = directory / "text_int8.onnx", directory / "vocabulary_float32.bin"
    onnx.save(mean_pooling(weights, vocabulary_inside=vocabulary_inside), graph)
    with outside.open("wb") as file:
        write_vocabulary(file, table, "float32")
    vocabulary = VocabularySpec(file=record_file(directory, outside), dtype="float32", rows=len(table), width=WIDTH)
    artifact = Artifact(
        graph=record_file(directory, graph),
        vocabulary=None if vocabulary_inside else vocabulary,
        fidelity=Fidelity(rows=1, mean_cosine=1.0, min_cosine=1.0, retrieval_agreement=1.0),
    )
    text = TextTower(
        length=lengths[-1],
        padding=Buckets(lengths=lengths),
        pad_id=PAD,
        suffix_ids=(EOS,),
        prompts=dict(prompts),
        default_prompt=default_prompt,
        tokenizer=manifest.text.tokenizer,
        inputs=("token_ids" if vocabulary_inside else "token_embeddings", "attention_mask"),
        artifacts={Precision.INT8: artifact},
    )
    msgspec.structs.replace(
        manifest,
        family="text",
        towers=Towers(text=text),
        scoring=Cosine(),
        shortening=MatryoshkaSpec(lengths=(4,)),
        golden=None,
    ).save(directory)
    return directory


def write_clip(directory: Path, *, seed: int = 3) -> Path:
    """A model directory whose scores compare the candidates of a query, and that sees the middle of an image."""
    space = f"{directory.name}-space"
    manifest = Manifest.load(write_model(directory, name=directory.name, space_id=space, seed=seed))
    geometry = ShortestSideCrop(shortest_side=SIZE, size=SIZE, patch_size=PATCH)
    vision = msgspec.structs.replace(manifest.vision, geometry=geometry, resample="bicubic")
    msgspec.structs.replace(
        manifest,
        family="clip",
        towers=msgspec.structs.replace(manifest.towers, vision=vision),
        scoring=Softmax(scale=10.0),
        zero_shot_template="a photo of a {}.",
    ).save(directory)
    return directory
