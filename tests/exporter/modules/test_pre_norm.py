"""The encoder with rotary positions computes what transformers computes, in torch and as a graph, at every length."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedModel

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.modules.pre_norm import PreNormEncoder, parts_of
from tests.exporter.modules.traced import TracedEncoder, rows, shaken

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning"
)  # torch's own, of what ModernBERT imports

COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 50,
    "pad_token_id": 1,
    "max_position_embeddings": 4096,
}
MODERNBERT = COMMON | {"local_attention": 16, "global_attn_every_n_layers": 3, "cls_token_id": 2, "sep_token_id": 3}
GEMMA = COMMON | {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 24, "query_pre_attn_scalar": 9}
QWEN = COMMON | {"num_key_value_heads": 2, "head_dim": 16}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "modernbert": ("ModernBert", MODERNBERT),
    "gemma": ("Gemma3Text", GEMMA | {"use_bidirectional_attention": True, "_sliding_window_pattern": 2}),
    "causal gemma": ("Gemma3Text", GEMMA | {"_sliding_window_pattern": 2}),
    "qwen": ("Qwen3", QWEN),
    "qwen with windows and biases": (
        "Qwen3",
        QWEN | {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 2, "attention_bias": True},
    ),
    "qwen with linear scaling": ("Qwen3", QWEN | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
}
SHORT, LONG = 512, 4096
"""Most tokens of a tower that computes attention at once, and of one that does so in blocks."""


def model_of(kind: str, **changed: Any) -> PreTrainedModel:
    name, config = KINDS[kind]
    torch.manual_seed(0)
    configuration = getattr(transformers, f"{name}Config")(**config | changed, attn_implementation="eager")
    return shaken(getattr(transformers, f"{name}Model")(configuration))


@pytest.mark.parametrize("longest", [SHORT, LONG])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tokens_hidden_row_is_transformers(kind, longest, tmp_path: Path):
    """Traced once, the graph is right at every length, padded or not, whole or in blocks."""
    model = model_of(kind)
    table = torch.nn.functional.embedding
    traced = TracedEncoder(PreNormEncoder(parts_of(model), longest=longest), 32, tmp_path)
    for length in (1, 2, 30, 128, 131, 300):
        ids, mask = rows(length)
        wanted = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        got = traced(table(ids, model.get_input_embeddings().weight), mask)
        real = mask.numpy() == 1
        np.testing.assert_allclose(got[real], wanted[real], atol=1e-4)


def test_a_row_of_thousands_of_tokens_is_transformers(tmp_path: Path):
    """In blocks, where a layer with a reach reads only the keys near each block."""
    model = model_of("modernbert")
    traced = TracedEncoder(PreNormEncoder(parts_of(model), longest=LONG), 32, tmp_path)
    ids, mask = rows(LONG)
    wanted = model(input_ids=ids[:1], attention_mask=mask[:1]).last_hidden_state.numpy()
    got = traced(model.get_input_embeddings()(ids[:1]), mask[:1])
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_have_standard_operators_only(kind, tmp_path: Path):
    """Every provider knows them, blocks included."""
    model = TracedEncoder(PreNormEncoder(parts_of(model_of(kind)), longest=LONG), 32, tmp_path).model
    scans = [node for node in model.graph.node if node.op_type == "Scan"]
    assert len(scans) == COMMON["num_hidden_layers"]
    bodies = [attribute.g for node in scans for attribute in node.attribute if attribute.HasField("g")]
    assert {node.domain for graph in (model.graph, *bodies) for node in graph.node} == {""}


def test_positions_that_change_with_the_rows_length_are_refused():
    """Their angles are no table."""
    model = model_of("qwen", rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    with pytest.raises(ExportError, match="dynamic"):
        PreNormEncoder(parts_of(model), longest=LONG)
