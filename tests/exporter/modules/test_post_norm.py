"""The post-norm encoder computes what transformers computes, in torch and as a graph, at every length."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from transformers import PreTrainedModel

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.graphs import graph_files
from siglip_edge.exporter.modules.pooling import last_token, mean_of_tokens
from siglip_edge.exporter.modules.post_norm import PostNormEncoder
from siglip_edge.exporter.modules.tracing import trace_module

BERT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
DISTILBERT = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 50, "max_position_embeddings": 80}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", BERT | {"max_position_embeddings": 80}),
    "bert with another activation": ("Bert", BERT | {"max_position_embeddings": 80, "hidden_act": "relu"}),
    "chinese-clip": ("ChineseCLIPText", BERT | {"max_position_embeddings": 80}),
    "roberta": ("Roberta", BERT | {"max_position_embeddings": 82}),
    "xlm-roberta": ("XLMRoberta", BERT | {"max_position_embeddings": 82}),
    "mpnet": ("MPNet", BERT | {"max_position_embeddings": 82}),
    "distilbert": ("DistilBert", DISTILBERT),
}
LENGTHS = (1, 2, 7, 64, 80)


def model_of(kind: str) -> PreTrainedModel:
    """A tiny model of random weights, large enough that biases and positions matter."""
    name, config = MODELS[kind]
    torch.manual_seed(0)
    configuration = getattr(transformers, f"{name}Config")(**config, attn_implementation="eager")
    model = getattr(transformers, f"{name}Model")(configuration)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return model.eval().requires_grad_(False)


def rows(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows of token ids and their mask: one of full length, one of half."""
    ids = torch.randint(5, 50, (2, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[1, -(-length // 2) :] = 0
    return torch.where(mask == 1, ids, torch.tensor(1)), mask


class Tower(PreTrainedModel):
    """As families use the encoder."""

    def __init__(self, source: PreTrainedModel) -> None:
        super().__init__(source.config)
        self.encoder = PostNormEncoder(source)

    def forward(self, token_embeddings: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.encoder(token_embeddings, attention_mask)


@pytest.mark.parametrize("kind", MODELS)
def test_every_tokens_hidden_row_is_transformers(kind, tmp_path: Path):
    """Traced once, the graph is right at every length, padded or not."""
    model = model_of(kind)
    table = model.get_input_embeddings()
    ids, mask = rows(6)
    axes = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace_module(
            Tower(model),
            {"token_embeddings": (table(ids), axes), "attention_mask": (mask, axes)},
            tmp_path / "tower.onnx",
        )
    graph_files.save(graph_files.simplify(tmp_path / "tower.onnx"), tmp_path / "simple.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "simple.onnx")
    for length in LENGTHS:
        ids, mask = rows(length)
        wanted = model(input_ids=ids, attention_mask=mask).last_hidden_state
        feeds = {"token_embeddings": table(ids).numpy(), "attention_mask": mask.numpy()}
        (got,) = session.run(None, feeds)
        real = mask.numpy() == 1
        np.testing.assert_allclose(got[real], wanted.numpy()[real], atol=2e-5)


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
