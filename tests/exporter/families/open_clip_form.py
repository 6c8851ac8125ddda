"""OpenCLIP's architecture, written anew with its names of weights: a reference that shares no code with the exporter."""

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel


class Blocks(nn.Module):
    """`resblocks` of pre-norm attention and MLP."""

    def __init__(self, width: int, layers: int, heads: int, activation: nn.Module) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            hidden = block(hidden, mask)
        return hidden


class Block(nn.Module):
    def __init__(self, width: int, heads: int, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        parts = {"c_fc": nn.Linear(width, 4 * width), "gelu": activation, "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.ln_1(hidden)
        hidden = hidden + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return hidden + self.mlp(self.ln_2(hidden))


class QuickGelu(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * torch.sigmoid(1.702 * hidden)


class Visual(nn.Module):
    def __init__(self, config: dict[str, Any], dimensions: int, activation: nn.Module) -> None:
        super().__init__()
        width, patch, side = config["width"], config["patch_size"], config["image_size"]
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((side // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Blocks(width, config["layers"], width // config["head_width"], activation)
        self.proj = nn.Parameter(torch.randn(width, dimensions) * width**-0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        classes = self.class_embedding.expand(len(patches), 1, -1)
        hidden = self.ln_pre(torch.cat([classes, patches], 1) + self.positional_embedding)
        return self.ln_post(self.transformer(hidden))[:, 0] @ self.proj


class OpenClipModel(nn.Module):
    """Its text tower at the top level, as OpenCLIP's class CLIP has it."""

    def __init__(self, model_cfg: dict[str, Any]) -> None:
        super().__init__()
        text, activation = model_cfg["text_cfg"], QuickGelu() if model_cfg.get("quick_gelu") else nn.GELU()
        self.visual = Visual(model_cfg["vision_cfg"], model_cfg["embed_dim"], activation)
        self.transformer = Blocks(text["width"], text["layers"], text["heads"], activation)
        self.token_embedding = nn.Embedding(text["vocab_size"], text["width"])
        self.positional_embedding = nn.Parameter(torch.randn(text["context_length"], text["width"]))
        self.ln_final = nn.LayerNorm(text["width"])
        self.text_projection = nn.Parameter(torch.randn(text["width"], model_cfg["embed_dim"]) * text["width"] ** -0.5)
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))
        self.eos_id = text.get("eos_id") if text.get("pool_type") == "eos" else None

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
        hidden = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        hidden = self.ln_final(self.transformer(hidden, mask))
        ends = ids.argmax(-1) if self.eos_id is None else (ids == self.eos_id).int().argmax(-1)
        return hidden[torch.arange(len(ids)), ends] @ self.text_projection


class Encoder(nn.Module):
    """The text tower `hf_model_name`: XLM-R, the mean of its tokens, an MLP."""

    def __init__(self, vocabulary: int, width: int, dimensions: int) -> None:
        super().__init__()
        config = XLMRobertaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=width // 64,
            intermediate_size=2 * width,
            max_position_embeddings=130,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )
        self.transformer = XLMRobertaModel(config, add_pooling_layer=False)
        hidden = (width + dimensions) // 2
        first, second = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, dimensions, bias=False)
        self.proj = nn.Sequential(first, nn.GELU(), second)

    def forward(self, ids: Tensor) -> Tensor:
        mask = (ids != self.transformer.config.pad_token_id).long()
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
        return self.proj(hidden.sum(1) / mask.sum(1, keepdim=True))


class OpenClipWithEncoder(nn.Module):
    """As OpenCLIP's class CustomTextCLIP."""

    def __init__(self, model_cfg: dict[str, Any], vocabulary: int) -> None:
        super().__init__()
        activation = QuickGelu() if model_cfg.get("quick_gelu") else nn.GELU()
        self.visual = Visual(model_cfg["vision_cfg"], model_cfg["embed_dim"], activation)
        self.text = Encoder(vocabulary, 128, model_cfg["embed_dim"])
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.text(ids)


def save(model: nn.Module, model_cfg: dict[str, Any], tokenizer_of: Path, directory: Path) -> Path:
    """Write a directory in OpenCLIP's format, with the tokenizer's files of another checkpoint."""
    directory.mkdir(parents=True)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    preprocess = {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
    content = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (directory / "open_clip_config.json").write_text(json.dumps(content))
    for path in tokenizer_of.iterdir():
        if path.name.startswith(("token", "special", "vocab", "merges", "sentencepiece.bpe.model")):
            shutil.copy(path, directory)
    return directory
