"""NaFlex: the files and shapes of google/siglip2-base-patch16-naflex, with random weights or those of a SigLIP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipModel,
)


@dataclass(frozen=True)
class NaflexSize:
    patch: int
    table: int
    """Cells of the table of position embeddings, a square number."""
    patches: int
    """Most patches by the image processor."""
    layers: int
    width: int
    mlp: int
    heads: int
    length: int


NAFLEX_SIZES = {
    "tiny": NaflexSize(patch=8, table=16, patches=24, layers=2, width=64, mlp=128, heads=4, length=16),
    "mid": NaflexSize(patch=16, table=64, patches=64, layers=4, width=256, mlp=1024, heads=4, length=32),
    "base": NaflexSize(patch=16, table=256, patches=256, layers=12, width=768, mlp=3072, heads=12, length=64),
}


def write_naflex(directory: Path, size: NaflexSize, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> None:
    """Write a directory that `transformers` loads, with random weights."""
    shared = {
        "hidden_size": size.width,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
    }
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "vocab_size": len(tokenizer)}
    text = {**shared, **ids, "max_position_embeddings": size.length, "projection_size": size.width}
    vision = {**shared, "patch_size": size.patch, "num_patches": size.table}
    torch.manual_seed(seed)
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    model.logit_scale.data.fill_(4.72)  # exp(4.72) = 112
    model.logit_bias.data.fill_(-16.0)
    _save(directory, model, tokenizer, Siglip2ImageProcessor(patch_size=size.patch, max_num_patches=size.patches))


def from_siglip(source: Path, directory: Path) -> None:
    """A SigLIP checkpoint of fixed resolution, written as a NaFlex checkpoint of the same weights.

    A square image in as many patches gives the same embedding, because the towers differ only in how patches are cut.
    """
    fixed, processor = SiglipModel.from_pretrained(source), AutoImageProcessor.from_pretrained(source, use_fast=False)
    vision = fixed.config.vision_config.to_dict()
    side = vision.pop("image_size") // vision["patch_size"]
    text = fixed.config.text_config.to_dict()
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": side**2}))
    model.load_state_dict(dict(_renamed(fixed.state_dict().items())))
    naflex = Siglip2ImageProcessor(
        resample=processor.resample,
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        patch_size=vision["patch_size"],
        max_num_patches=side**2,
    )
    _save(directory, model, AutoTokenizer.from_pretrained(source), naflex)


def _renamed(state: Iterable[tuple[str, torch.Tensor]]) -> Iterable[tuple[str, torch.Tensor]]:
    """The weights of a convolution over patches as those of a linear layer, whose channels come last."""
    for name, tensor in state:
        yield name, tensor.permute(0, 2, 3, 1).flatten(1) if name.endswith("patch_embedding.weight") else tensor


def _save(
    directory: Path, model: Siglip2Model, tokenizer: PreTrainedTokenizerBase, processor: Siglip2ImageProcessor
) -> None:
    for part in (tokenizer, processor, model):
        part.save_pretrained(directory)
