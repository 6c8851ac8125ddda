"""Write a checkpoint with random weights in a family's shapes, to measure speed and memory without a download.

    python -m siglip_edge.bench.checkpoint DIRECTORY [--family clip] [--size base] [--outliers 50]

The family is SigLIP 2 by default; modules of `bench/checkpoints/` write the others.

Its shapes, files and tokenizer format equal those of google/siglip2-base-patch16-256; its embeddings mean nothing.
Trained transformers have a few channels that are tens of times larger than the rest. `--outliers` adds such channels.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from transformers import GemmaTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel

from siglip_edge.bench.checkpoints.chinese_clip import CHINESE_CLIP_SIZES, write_chinese_clip
from siglip_edge.bench.checkpoints.clip import CLIP_SIZES, write_clip
from siglip_edge.bench.checkpoints.gemma_tokenizer import train_tokenizer
from siglip_edge.bench.checkpoints.metaclip_2 import write_metaclip_2
from siglip_edge.bench.checkpoints.naflex import NAFLEX_SIZES, write_naflex
from siglip_edge.bench.checkpoints.text import SHAPES, write_text
from siglip_edge.bench.checkpoints.words import made_up_lines


@dataclass(frozen=True)
class Size:
    image: int
    layers: int
    width: int
    mlp: int
    heads: int
    vocabulary: int
    length: int
    patch: int = 16


SIZES = {
    "tiny": Size(image=32, layers=2, width=64, mlp=128, heads=4, vocabulary=1_000, length=16),
    "mid": Size(image=96, layers=4, width=256, mlp=1024, heads=4, vocabulary=8_000, length=32),
    "base": Size(image=256, layers=12, width=768, mlp=3072, heads=12, vocabulary=256_000, length=64),
}


OUTLIER_CHANNELS = 4
"""Number of outlier channels in the residual stream, and of outlier units in every MLP. Dettmers et al. 2022,
"LLM.int8()", found a handful per model, in the same channels of every layer."""


def write_checkpoint(directory: Path, size: Size, seed: int = 0, outliers: float = 1.0) -> None:
    """Write a directory that `transformers` loads: configuration, weights, image processor, Gemma-format tokenizer.

    `outliers`: size of the outlier channels relative to other channels; 1 adds no outliers.
    """
    wrapped = gemma_tokenizer(size, seed)
    wrapped.save_pretrained(directory)
    side = {"height": size.image, "width": size.image}
    SiglipImageProcessor(size=side, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(directory)
    model = random_model(size, len(wrapped), seed)
    if outliers > 1:
        plant_outliers(model, outliers, seed)
    model.save_pretrained(directory)


def gemma_tokenizer(size: Size, seed: int = 0) -> GemmaTokenizerFast:
    """-> a tokenizer of SigLIP 2's kind, with EOS and without BOS."""
    return GemmaTokenizerFast(
        tokenizer_object=train_tokenizer(size.vocabulary, seed),
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        add_bos_token=False,
        add_eos_token=True,
        model_max_length=size.length,
        padding_side="right",
    )


def random_model(size: Size, vocabulary: int, seed: int) -> SiglipModel:
    """-> a model with the random initialisation of `transformers`, and the usual logit scale and bias of SigLIP."""
    shared = {
        "hidden_size": size.width,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
    }
    text = {**shared, "vocab_size": vocabulary, "max_position_embeddings": size.length, "projection_size": size.width}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = {**shared, "image_size": size.image, "patch_size": size.patch}
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(text_config={**text, **ids}, vision_config=vision))
    model.logit_scale.data.fill_(4.72)  # exp(4.72) = 112
    model.logit_bias.data.fill_(-16.0)
    return model


@torch.no_grad()
def plant_outliers(model: SiglipModel, factor: float, seed: int = 0) -> None:
    """Make OUTLIER_CHANNELS of both residual streams and of every MLP `factor` times as large as the rest, in place.

    In the residual stream they are almost the same for every input, as in trained transformers (Sun et al. 2024,
    "Massive Activations in Large Language Models"), and the layers that read them have small weights for them.
    Quantization that clips the outliers shifts every product; a scale that fits them rounds other channels to nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(8, 3, model.config.vision_config.image_size, model.config.vision_config.image_size)
    ids = torch.randint(4, model.config.text_config.vocab_size, (8, model.config.text_config.max_position_embeddings))
    for tower, row in ((model.vision_model, pixels), (model.text_model, ids)):
        _plant_in_stream(tower, _stream_sizes(tower, row), factor, _chosen(tower.config.hidden_size, generator))
        for mlp in (module for module in tower.modules() if hasattr(module, "fc1")):
            units = _chosen(mlp.fc1.out_features, generator)
            mlp.fc1.weight[units] *= factor
            mlp.fc1.bias[units] *= factor
            mlp.fc2.weight[:, units] /= factor


def _chosen(width: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(width, generator=generator)[:OUTLIER_CHANNELS]


def _stream_sizes(tower: nn.Module, row: torch.Tensor) -> list[float]:
    """-> standard deviation of the residual stream before every layer, and after the last layer."""
    sizes: list[float] = []
    norms = [*(layer.layer_norm1 for layer in tower.encoder.layers), _last_norm(tower)]
    hooks = [norm.register_forward_pre_hook(lambda _, read: sizes.append(float(read[0].std()))) for norm in norms]
    tower(row)
    for hook in hooks:
        hook.remove()
    return sizes


def _last_norm(tower: nn.Module) -> nn.LayerNorm:
    return tower.final_layer_norm if hasattr(tower, "final_layer_norm") else tower.post_layernorm


def _plant_in_stream(tower: nn.Module, sizes: list[float], factor: float, channels: torch.Tensor) -> None:
    tower.embeddings.position_embedding.weight[:, channels] += factor * sizes[0]
    for layer, (size, next_size) in zip(tower.encoder.layers, pairwise(sizes), strict=True):
        layer.mlp.fc2.bias[channels] += factor * (next_size - size)
        attention = layer.self_attn
        _read_less(
            layer.layer_norm1,
            (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight),
            factor,
            channels,
        )
        _read_less(layer.layer_norm2, (layer.mlp.fc1.weight,), factor, channels)
    # The query of the vision head comes from its probe, not from the stream, so its weights stay.
    readers = (
        (tower.head.weight,) if hasattr(tower.head, "weight") else tower.head.attention.in_proj_weight.chunk(3)[1:]
    )
    _read_less(_last_norm(tower), readers, factor, channels)


def _read_less(norm: nn.LayerNorm, readers: tuple[torch.Tensor, ...], factor: float, channels: torch.Tensor) -> None:
    """Compensate for the outliers in layers that read the stream through `norm`: other channels keep their size."""
    norm.weight *= (1 + len(channels) * factor**2 / norm.weight.numel()) ** 0.5
    for weight in readers:
        weight[:, channels] /= factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--family", choices=("siglip", *OTHERS), default="siglip")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--outliers", type=float, default=1.0, metavar="FACTOR", help="SigLIP's; 20 to 100; 1: none")
    arguments = parser.parse_args()
    if arguments.family == "siglip":
        write_checkpoint(arguments.directory, SIZES[arguments.size], outliers=arguments.outliers)
    else:
        OTHERS[arguments.family](arguments.directory, arguments.size)


def write_tiny(directory: Path, family: str) -> None:
    """The smallest checkpoint of a family beside SigLIP, for tests."""
    OTHERS[family](directory, "tiny")


def _clip(directory: Path, size: str) -> None:
    write_clip(directory, CLIP_SIZES[size], made_up_lines(CLIP_SIZES[size].vocabulary, random.Random(0)))


def _metaclip_2(directory: Path, size: str) -> None:
    write_metaclip_2(directory, CLIP_SIZES[size], made_up_lines(CLIP_SIZES[size].vocabulary, random.Random(0)))


def _chinese_clip(directory: Path, size: str) -> None:
    write_chinese_clip(directory, CHINESE_CLIP_SIZES[size])


def _naflex(directory: Path, size: str) -> None:
    write_naflex(directory, NAFLEX_SIZES[size], gemma_tokenizer(SIZES[size]))


def _text(directory: Path, size: str, name: str) -> None:
    shape = SHAPES[name]
    vocabulary = 1_000 if size == "tiny" else shape.config["vocab_size"]
    write_text(directory, shape, made_up_lines(vocabulary, random.Random(0)), tiny=size == "tiny")


class Writes(Protocol):
    def __call__(self, directory: Path, size: str) -> None: ...


OTHERS: Mapping[str, Writes] = {
    "clip": _clip,
    "metaclip_2": _metaclip_2,
    "chinese_clip": _chinese_clip,
    "naflex": _naflex,
    **{name: partial(_text, name=name) for name in SHAPES},
}
"""Family -> what writes a checkpoint of a size by its name."""


if __name__ == "__main__":
    main()
