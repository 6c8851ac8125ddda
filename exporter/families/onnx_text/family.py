"""The exporter's five questions, answered for text encoders read from ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.family import Contract, Family, Floats
from siglip_edge.exporter.families.onnx_text.checkpoint import OnnxTextCheckpoint, load_checkpoint
from siglip_edge.exporter.families.onnx_text.published_graph import KNOWN_AS, run_graph
from siglip_edge.exporter.families.onnx_text.tower_graph import TowerGraph
from siglip_edge.exporter.families.text.layout import Dense, Normalize, Pooling
from siglip_edge.exporter.families.text.lengths import matryoshka
from siglip_edge.exporter.graphs.blockwise_attention import write_out_attention
from siglip_edge.exporter.graphs.graph_files import save
from siglip_edge.runtime.artifacts.manifest import Cosine, Tower, Towers
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS, TOKEN_IDS

_OF_DENSE = {"Identity": "Identity", "Tanh": "Tanh"}
"""Class of torch.nn -> operator."""
_ROUNDING = 1e-4
"""Greatest difference of a tower from its graph, as a share of the largest value. all-MiniLM-L6-v2 differs by 7e-7,
with GELU in its other form by 2e-3."""
_COMPARED = 48
"""Tokens per row."""


class OnnxTextEncoder(Family[OnnxTextCheckpoint]):
    name = "text"  # the same models, and where both can read one, the same space

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == KNOWN_AS

    def open(self, source: str) -> OnnxTextCheckpoint:
        checkpoint = load_checkpoint(source)
        for step in checkpoint.layout.after:
            if isinstance(step, Dense) and step.activation not in _OF_DENSE:
                raise ExportError(f"{source}: {step.folder} has the activation {step.activation}: not exported")
        return checkpoint

    def contract(self, checkpoint: OnnxTextCheckpoint) -> Contract:
        return Contract(
            dimensions=checkpoint.dimensions,
            towers=Towers(text=checkpoint.tower),
            tokenizer_json=checkpoint.tokenizer_json,
            scoring=Cosine(),
            shortening=matryoshka(checkpoint.layout, checkpoint.dimensions),
        )

    def trace(self, checkpoint: OnnxTextCheckpoint, tower: Tower, path: Path) -> Floats | None:  # noqa: ARG002
        encoder, layout = checkpoint.encoder, checkpoint.layout
        graph = TowerGraph(encoder.heads, checkpoint.tower.length)
        hidden = graph.encode(encoder, checkpoint.positions, first_only=layout.pooling is Pooling.FIRST)
        pooled = graph.pool(layout.pooling, hidden)
        for index, step in enumerate(layout.after[: checkpoint.steps]):
            if isinstance(step, Dense):
                operator = _OF_DENSE[step.activation]
                pooled = graph.dense(f"/after.{index}", pooled, checkpoint.dense[index], operator)
            else:
                pooled = graph.normalize(f"/after.{index}", pooled)
        save(graph.model(pooled, encoder.tokens.shape[1], checkpoint.dimensions), path)
        write_out_attention(path)
        _compare(checkpoint, path)
        return encoder.tokens

    def reference(self, checkpoint: OnnxTextCheckpoint, tower: Tower, batch: Arrays) -> Floats:  # noqa: ARG002
        return _embedded(checkpoint, batch[TOKEN_IDS], batch[ATTENTION_MASK])


def _compare(checkpoint: OnnxTextCheckpoint, path: Path) -> None:
    """Rows of any tokens, one of them shorter. Raises ExportError where more than rounding differs."""
    rng, table = np.random.default_rng(0), checkpoint.encoder.tokens
    length = min(_COMPARED, checkpoint.tower.length)
    ids, mask = rng.integers(0, len(table), (2, length)), np.ones((2, length), np.int64)
    ids[ids == checkpoint.config["pad_token_id"]] += 1  # the graph would count its positions in another way
    mask[1, length // 2 :] = 0
    ids[1, length // 2 :] = checkpoint.config["pad_token_id"]
    wanted = _embedded(checkpoint, ids, mask)
    made = run_graph(checkpoint.source, path, {TOKEN_EMBEDDINGS: table[ids], ATTENTION_MASK: mask})
    if not (error := np.abs(made - wanted).max() / np.abs(wanted).max()) <= _ROUNDING:  # also of NaN
        raise ExportError(
            f"{checkpoint.source}: the tower made of its graph differs from it by {error:.1e} of the largest value; "
            "export it from its weights, with pip install 'siglip-edge[export]'"
        )


def _embedded(checkpoint: OnnxTextCheckpoint, ids: NDArray[Any], mask: NDArray[Any]) -> Floats:
    """As sentence-transformers makes a vector of the graph's hidden rows."""
    pooled = _pooled(checkpoint.layout.pooling, checkpoint.published(ids, mask), mask)
    for index, step in enumerate(checkpoint.layout.after[: checkpoint.steps]):
        if isinstance(step, Normalize):
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
            continue
        layer = checkpoint.dense[index]
        product = pooled @ layer.weight + layer.bias
        pooled = np.tanh(product) if step.activation == "Tanh" else product
    return np.asarray(pooled, np.float32)


def _pooled(pooling: Pooling, hidden: Floats, mask: Any) -> Floats:
    """As sentence-transformers pools."""
    if pooling is Pooling.FIRST:
        return hidden[:, 0]
    if pooling is Pooling.LAST:
        return np.asarray(hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1])
    kept = mask[..., None].astype(np.float32)
    return np.asarray((hidden * kept).sum(axis=1) / kept.sum(axis=1))
