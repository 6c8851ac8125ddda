"""OpenCLIP's weights, renamed for the same architectures of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel, MetaClip2Model, XLMRobertaConfig, XLMRobertaModel

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.open_clip.configuration import Configuration, clip_config

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_IGNORED = re.compile(r"(text\.)?(attn_mask|input_resolution|context_length|vocab_size)|.*\.position_ids")
"""Constants that older files hold beside the weights."""
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
XLM_HEAD_WIDTH = 64
"""Of XLM-R base and large."""


def read_weights(source: str) -> dict[str, Tensor]:
    """The tensors of a directory or a hub repository in OpenCLIP's format, in float32. Raises ExportError."""
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    for name in FILES:
        try:
            path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
            if path is None:
                continue
            loaded = load_file(path) if name.endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
        except Exception as error:  # damaged files make safetensors and torch raise any type
            reason = str(error).strip().partition("\n")[0]
            raise ExportError(f"{source}: {name} cannot be read ({reason})") from error
        tensors = {key.removeprefix("module."): value for key, value in loaded.get("state_dict", loaded).items()}
        return {key: value.float() for key, value in tensors.items() if not _IGNORED.fullmatch(key)}
    raise ExportError(f"{source}: no weights; OpenCLIP's files are {' and '.join(FILES)}")


def build_model(configuration: Configuration, weights: Mapping[str, Tensor]) -> Any:
    """A CLIPModel of transformers with the checkpoint's weights; its text tower may be an XLMRobertaModel."""
    named = _renamed(weights)
    kind = CLIPModel if configuration.pooled_id is None else MetaClip2Model
    model = kind._from_config(clip_config(configuration), attn_implementation="eager")  # noqa: SLF001 - no other way
    if configuration.has_encoder:
        _put_encoder(model, named, configuration)
    try:
        missing, unexpected = model.load_state_dict(named, strict=False)
    except RuntimeError as error:  # a shape differs
        reason = str(error).strip().splitlines()[-1].strip()
        raise ExportError(f"{configuration.source}: the weights do not fit open_clip_config.json ({reason})") from error
    if odd := [*(f"{name} is missing" for name in missing), *(f"{name} has no place" for name in unexpected)]:
        raise ExportError(f"{configuration.source}: the weights do not fit open_clip_config.json ({odd[0]})")
    return model.eval().requires_grad_(requires_grad=False)


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        named |= _vision(key.removeprefix("visual."), tensor) if key.startswith("visual.") else _text(key, tensor)
    return named


def _vision(key: str, tensor: Tensor) -> dict[str, Tensor]:
    if key == "proj":
        return {"visual_projection.weight": tensor.T.contiguous()}
    return _in_tower("vision_model", key, tensor, _VISION)


def _text(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """`key` with the prefix `text.` of checkpoints that were built with custom_text, or without."""
    key = key.removeprefix("text.")
    if key == "logit_scale":
        return {key: tensor.reshape(())}
    if key == "text_projection":
        return {"text_projection.weight": tensor.T.contiguous()}
    if key.startswith("proj."):
        return {f"text_projection.{key.removeprefix('proj.')}": tensor}
    if key.startswith("transformer.") and not _BLOCK.fullmatch(key):
        return {f"text_model.{key.removeprefix('transformer.')}": tensor}
    return _in_tower("text_model", key, tensor, _TEXT)


def _in_tower(tower: str, key: str, tensor: Tensor, names: Mapping[str, str]) -> dict[str, Tensor]:
    if match := _BLOCK.fullmatch(key):
        layer = f"{tower}.encoder.layers.{match[1]}"
        if match[2].startswith("attn.in_proj_"):
            kind = match[2].removeprefix("attn.in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            return {f"{layer}.self_attn.{part}_proj.{kind}": one.contiguous() for part, one in parts}
        return {f"{layer}.{_translated(match[2], _IN_BLOCK)}": tensor}
    return {f"{tower}.{_translated(key, names)}": tensor}


def _translated(key: str, names: Mapping[str, str]) -> str:
    """A whole name, or one whose last part is `weight` or `bias`. An unknown name stays, and has no place later."""
    module, _, last = key.rpartition(".")
    return names.get(key) or (f"{names[module]}.{last}" if module in names else key)


def _put_encoder(model: Any, named: dict[str, Tensor], configuration: Configuration) -> None:
    """Replace the text tower by an XLM-R and its projection, in the shapes of the weights."""
    embeddings = "text_model.embeddings"
    layers = {int(match[1]) for key in named if (match := re.match(r"text_model\.encoder\.layer\.(\d+)\.", key))}
    try:
        (rows, width), (positions, _) = (
            named[f"{embeddings}.{name}_embeddings.weight"].shape for name in ("word", "position")
        )
        up = len(named["text_model.encoder.layer.0.intermediate.dense.weight"])
        projection = [named[key] for key in sorted(named) if key.startswith("text_projection.")]
    except KeyError as error:
        raise ExportError(f"{configuration.source}: its weights hold no XLM-R ({error.args[0]} is missing)") from error
    config = XLMRobertaConfig(
        vocab_size=rows,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=width // XLM_HEAD_WIDTH,
        intermediate_size=up,
        max_position_embeddings=positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    model.text_model, model.config.text_config = XLMRobertaModel(config, add_pooling_layer=False), config
    model.text_projection = _projection([tuple(weight.shape) for weight in projection])


def _projection(shapes: list[tuple[int, ...]]) -> nn.Module:
    """OpenCLIP's `linear`, or `mlp`: two linear layers with GELU between them, all without bias."""
    layers = [nn.Linear(inside, outside, bias=False) for outside, inside in shapes]
    return layers[0] if len(layers) == 1 else nn.Sequential(layers[0], nn.GELU(), *layers[1:])
