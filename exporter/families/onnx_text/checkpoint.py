"""A text encoder opened by its ONNX graph: no torch, no transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.family import Checkpoint
from siglip_edge.exporter.families.onnx_text.encoder import Encoder, Floats, Linear, Norm
from siglip_edge.exporter.families.onnx_text.encoder_parts import PartsReader
from siglip_edge.exporter.families.onnx_text.published_graph import (
    GRAPHS,
    PublishedGraph,
    check_graph,
    find_graph,
    plain_form,
)
from siglip_edge.exporter.families.onnx_text.tokenizer import Tokenization, open_tokenizer
from siglip_edge.exporter.families.text.checkpoint import text_tower
from siglip_edge.exporter.families.text.layout import Dense, Layout, read_json, read_layout
from siglip_edge.exporter.families.text.lengths import longest_of
from siglip_edge.runtime.artifacts.manifest import TextTower

COUNTED_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Their positions begin behind the id of the padding."""
MODEL_TYPES = ("bert", *COUNTED_BEHIND_PADDING)

_FETCHED = [
    "*.json",
    "*/model.safetensors",  # of Dense layers
    *GRAPHS,
    *(f"{graph}_data" for graph in GRAPHS),
]


@dataclass(frozen=True, kw_only=True)
class OnnxTextCheckpoint(Checkpoint):
    """`model` is an Encoder."""

    published: PublishedGraph
    layout: Layout
    dense: Mapping[int, Linear]
    """Position in `layout.after` -> weights."""
    config: Mapping[str, Any]
    tower: TextTower
    """Without artifacts; the tokenizer is TO_BE_WRITTEN."""
    tokenizer_json: str

    @property
    def encoder(self) -> Encoder:
        return self.model  # type: ignore[no-any-return]

    @property
    def dimensions(self) -> int:
        return int([self.encoder.tokens.shape[1], *(len(layer.bias) for layer in self.dense.values())][-1])

    @property
    def steps(self) -> int:
        """How many steps behind the pooling the graph has: serving normalises by itself."""
        return max(self.dense, default=-1) + 1

    @property
    def positions(self) -> Floats:
        """What is added to the token at each position, (longest, width): with the first token type."""
        begin = first_position(self.config)
        return np.asarray(self.encoder.positions[begin : begin + self.tower.length] + self.encoder.token_types[0])

    def weights_sha256(self) -> str:
        """That of the same weights read by torch, so that both exports are of one space."""
        digest = hashlib.sha256()
        for name, values in sorted(self._named()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def _named(self) -> Iterator[tuple[str, Floats]]:
        """Every weight under its name in `families.text.reference.SentenceModel`."""
        own, encoder = "transformer.embeddings", self.encoder
        yield f"{own}.word_embeddings.weight", encoder.tokens
        yield f"{own}.position_embeddings.weight", encoder.positions
        yield f"{own}.token_type_embeddings.weight", encoder.token_types
        yield from _norm(f"{own}.LayerNorm", encoder.norm)
        for index, layer in enumerate(encoder.layers):
            own = f"transformer.encoder.layer.{index}"
            for name in ("query", "key", "value"):
                yield from _linear(f"{own}.attention.self.{name}", getattr(layer, name))
            yield from _linear(f"{own}.attention.output.dense", layer.out)
            yield from _norm(f"{own}.attention.output.LayerNorm", layer.attention_norm)
            yield from _linear(f"{own}.intermediate.dense", layer.up)
            yield from _linear(f"{own}.output.dense", layer.down)
            yield from _norm(f"{own}.output.LayerNorm", layer.mlp_norm)
        for index, step in enumerate(self.layout.after):
            if isinstance(step, Dense):
                weight, bias = _linear(f"after.{index}.linear", self.dense[index])
                yield from (weight, bias) if step.has_bias else (weight,)


def load_checkpoint(source: str) -> OnnxTextCheckpoint:
    """Open a hub id or a local directory. Raises ExportError that names what is missing or cannot be exported."""
    directory = _directory(source)
    graph, config = _graph(source, directory), _config(source, directory)
    layout = read_layout(str(directory))
    tokenization = open_tokenizer(source, directory)
    check_graph(source, graph)
    reader = PartsReader(source, plain_form(source, graph))
    encoder = reader.encoder(config["max_position_embeddings"], config["type_vocab_size"])
    _check(source, config, encoder, tokenization)
    positions = len(encoder.positions) - first_position(config)
    longest = longest_of(source, layout, positions, tokenization.takes)
    return OnnxTextCheckpoint(
        source=source,
        model=encoder,
        published=PublishedGraph(source, graph),
        layout=layout,
        dense=_dense(source, directory, layout, encoder.tokens.shape[1]),
        config=config,
        tower=text_tower(source, layout, longest, tokenization.serialized, tokenization.pad_id or 0),
        tokenizer_json=tokenization.serialized,
    )


def first_position(config: Mapping[str, Any]) -> int:
    """The row of the position table that the first token gets."""
    return int(config["pad_token_id"]) + 1 if config["model_type"] in COUNTED_BEHIND_PADDING else 0


def _directory(source: str) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_FETCHED))
    except Exception as error:  # no such repository, no network, no name of one: types of three libraries
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: not a checkpoint directory or a reachable hub id ({reason})") from error


def _graph(source: str, directory: Path) -> Path:
    graph = find_graph(directory)
    if graph is None:
        raise ExportError(
            f"{source}: it has no ONNX graph ({' or '.join(GRAPHS)}); to export it from its weights, "
            "pip install 'siglip-edge[export]'"
        )
    return graph


def _config(source: str, directory: Path) -> dict[str, Any]:
    config = read_json(str(directory), "config.json") or {}
    if (kind := config.get("model_type")) not in MODEL_TYPES:
        known = ", ".join(MODEL_TYPES)
        raise ExportError(
            f"{source}: ONNX graphs of model type {kind!r} are not read; known: {known}; to export it from its "
            "weights, pip install 'siglip-edge[export]'"
        )
    needed = ("max_position_embeddings", "type_vocab_size", "pad_token_id")
    if missing := [name for name in needed if name not in config]:
        raise ExportError(f"{source}: config.json has no {missing[0]}")
    if (kind := config.get("position_embedding_type", "absolute")) != "absolute":
        raise ExportError(f"{source}: position_embedding_type {kind!r} is not exported; absolute positions are")
    return dict(config)


def _check(source: str, config: Mapping[str, Any], encoder: Encoder, tokenization: Tokenization) -> None:
    known = len(encoder.tokens)
    if tokenization.highest >= known:
        raise ExportError(f"{source}: its tokenizer has token {tokenization.highest}, its model {known} embeddings")
    if config["model_type"] in COUNTED_BEHIND_PADDING and tokenization.pad_id != config["pad_token_id"]:
        raise ExportError(
            f"{source}: its tokenizer pads with token {tokenization.pad_id}, but its model leaves token "
            f"{config['pad_token_id']} out when it counts positions; their files do not belong together"
        )


def _dense(source: str, directory: Path, layout: Layout, width: int) -> dict[int, Linear]:
    found = {}
    for index, step in enumerate(layout.after):
        if isinstance(step, Dense):
            layer = _read_dense(source, directory, step)
            if layer.weight.shape != (width, step.outputs):
                raise ExportError(f"{source}: {step.folder} has weights {layer.weight.shape} and gets {width} numbers")
            found[index], width = layer, step.outputs
    return found


def _read_dense(source: str, directory: Path, step: Dense) -> Linear:
    from safetensors.numpy import load_file

    path = directory / step.folder / "model.safetensors"
    try:
        tensors = {name: np.asarray(values, np.float32) for name, values in load_file(path).items()}
        bias = tensors["linear.bias"] if step.has_bias else np.zeros(step.outputs, np.float32)
        return Linear(weight=tensors["linear.weight"].T, bias=bias, given="")
    except Exception as error:  # damaged files make safetensors raise types of its own
        raise ExportError(f"{source}: {step.folder}/model.safetensors cannot be read ({error})") from error


def _linear(name: str, layer: Linear) -> Sequence[tuple[str, Floats]]:
    return (f"{name}.weight", layer.weight.T), (f"{name}.bias", layer.bias)


def _norm(name: str, norm: Norm) -> Sequence[tuple[str, Floats]]:
    return (f"{name}.weight", norm.weight), (f"{name}.bias", norm.bias)
