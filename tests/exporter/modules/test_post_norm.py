"""The post-norm encoder computes what transformers computes, in torch and as a graph, at every length."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedModel

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.modules.pooling import last_token, mean_of_tokens
from siglip_edge.exporter.modules.post_norm import PostNormEncoder
from tests.exporter.modules.traced import TracedEncoder, rows, shaken

BERT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
DISTILBERT = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 50, "max_position_embeddings": 80}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", BERT | {"max_position_embeddings": 80}),
    "bert with another activation": ("Bert", BERT | {"max_position_embeddings": 80, "hidden_act": "relu"}),
    "chinese-clip": ("ChineseCLIPText", BERT | {"max_position_embeddings": 80}),
    "roberta": ("Roberta", BERT | {"max_position_embeddings": 82}),
    "xlm-roberta": ("XLMRoberta", BERT | {"max_position_embeddings": 82}),
    "xlm-roberta for long texts": ("XLMRoberta", BERT | {"max_position_embeddings": 2050}),
    "mpnet": ("MPNet", BERT | {"max_position_embeddings": 82}),
    "distilbert": ("DistilBert", DISTILBERT),
}
LENGTHS = (1, 2, 7, 64, 80)


def model_of(kind: str) -> PreTrainedModel:
    name, config = MODELS[kind]
    torch.manual_seed(0)
    configuration = getattr(transformers, f"{name}Config")(**config, attn_implementation="eager")
    return shaken(getattr(transformers, f"{name}Model")(configuration))


@pytest.mark.parametrize("kind", MODELS)
def test_every_tokens_hidden_row_is_transformers(kind, tmp_path: Path):
    """Traced once, the graph is right at every length, padded or not."""
    model = model_of(kind)
    encoder, table = PostNormEncoder(model), model.get_input_embeddings()
    traced = TracedEncoder(encoder, 32, tmp_path)
    for length in (*LENGTHS, *((encoder.longest,) if encoder.longest > 80 else ())):
        ids, mask = rows(length)
        wanted = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
        got = traced(table(ids), mask)
        real = mask.numpy() == 1
        np.testing.assert_allclose(got[real], wanted[real], atol=2e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_a_tower_that_pools_the_first_position_computes_no_other_in_its_last_layer(kind):
    model = model_of(kind)
    ids, mask = rows(9)
    whole = PostNormEncoder(model)(model.get_input_embeddings()(ids), mask)
    first = PostNormEncoder(model, first_only=True)(model.get_input_embeddings()(ids), mask)
    assert first.shape == (2, 1, 32)
    np.testing.assert_allclose(first[:, 0], whole[:, 0], atol=1e-5)


def test_pooling_leaves_padding_out():
    """Whatever stands there."""
    hidden = torch.tensor([[[1.0], [3.0], [8.0]], [[1.0], [2.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert mean_of_tokens(hidden, mask).tolist() == [[2.0], [3.0]]
    assert last_token(hidden, mask).tolist() == [[3.0], [6.0]]


def test_relative_positions_of_bert_are_refused():
    """They would be left out in silence otherwise."""
    source = SimpleNamespace(
        config=SimpleNamespace(model_type="bert", position_embedding_type="relative_key"), embeddings=None
    )
    with pytest.raises(ExportError, match="relative_key"):
        PostNormEncoder(source)
