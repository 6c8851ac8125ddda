"""open_clip_config.json -> configurations of transformers. What does not map exactly is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.clip.texts import HIGHEST
from siglip_edge.runtime.artifacts.manifest import ColorProfiles, ShortestSideCrop, Squash, VisionTower

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
DEFAULT_LENGTH = 77
XLM_ROBERTA = ("xlm-roberta-base", "xlm-roberta-large", "FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large")

_SMALLEST = {"width": 8, "layers": 1, "heads": 1, "vocab_size": 8}
_ARCHITECTURE = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text")
_VISION = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs", "act_kwargs")
_TEXT = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs", "act_kwargs")
_TOKENS = ("hf_tokenizer_name", "tokenizer_kwargs", "pool_type", "eos_id", "pad_id")
_ENCODER = ("hf_model_name", "hf_proj_type", "hf_pooler_type", "proj", "pooler_type")
_WITHOUT_EFFECT = (
    *(
        "init_logit_scale",
        "patch_dropout",
        "output_tokens",
        "pos_embed_type",
        "final_ln_after_pool",
        "attn_pooler_queries",
    ),
    *("attn_pooler_heads", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"),
    *("timm_drop_path", "hf_model_pretrained"),
)
"""Of training, of towers that are refused, or, as `final_ln_after_pool`, the same for a pooled class token."""
_PLAIN = {"pool_type": "tok", "block_type": "default", "proj_type": "linear"}
_CLEAN_BPE, _CLEAN_OTHERS = "lower", "whitespace"
"""OpenCLIP's defaults, which the tokenizers themselves do. `canonicalize`, for example, would also drop punctuation."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A checked open_clip_config.json."""

    source: str
    dimensions: int
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    quick_gelu: bool

    @property
    def has_encoder(self) -> bool:
        """Whether the text tower is XLM-R, rather than OpenCLIP's own causal one."""
        return bool(self.text.get("hf_model_name"))

    @property
    def length(self) -> int:
        return int(self.text.get("context_length", DEFAULT_LENGTH))

    @property
    def pooled_id(self) -> int | None:
        """The token at which a causal text tower pools; None: the highest id, which is CLIP's end token."""
        return int(self.text.get("eos_id", 2)) if self.text.get("pool_type") == "eos" else None

    def activation(self, tower: Mapping[str, Any]) -> str:
        if self.quick_gelu:
            return "quick_gelu"
        return "gelu_pytorch_tanh" if (tower.get("act_kwargs") or {}).get("approximate") == "tanh" else "gelu"


def read(source: str, content: Mapping[str, Any]) -> Configuration:
    """`content`: of open_clip_config.json. Raises ExportError that names the first setting that is not exported."""
    model, preprocess = content.get("model_cfg") or {}, content.get("preprocess_cfg") or {}
    vision, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    if not vision or not text or "embed_dim" not in model:
        raise ExportError(f"{source}: open_clip_config.json has no model_cfg with embed_dim, vision_cfg and text_cfg")
    _check_architecture(source, vision, text)
    _check_settings(source, "model_cfg", model, _ARCHITECTURE)
    _check_settings(source, "vision_cfg", vision, _VISION)
    _check_settings(source, "text_cfg", text, (*_TEXT, *_TOKENS, *_ENCODER))
    _check_texts(source, text)
    return Configuration(
        source=source,
        dimensions=model["embed_dim"],
        vision=vision,
        text=text,
        preprocess=preprocess,
        quick_gelu=bool(model.get("quick_gelu")),
    )


def vision_tower(configuration: Configuration) -> VisionTower:
    """The evaluation transform of OpenCLIP, as torchvision computes it."""
    given = configuration.preprocess
    size, patch = _side(configuration, "image_size"), _side(configuration, "patch_size")
    mode = given.get("resize_mode", "shortest")
    if mode not in {"shortest", "squash"}:
        raise ExportError(f"{configuration.source}: resize_mode {mode!r} pads pictures; shortest and squash are known")
    if given.get("size", size) not in (size, [size, size]):
        raise ExportError(f"{configuration.source}: preprocess_cfg makes {given['size']} pixels, its tower {size}")
    crop = ShortestSideCrop(shortest_side=size, size=size, patch_size=patch, rounds_half_to_even=True)
    return VisionTower(
        geometry=crop if mode == "shortest" else Squash(size=size, patch_size=patch),
        resample="bilinear" if given.get("interpolation") == "bilinear" else "bicubic",
        mean=tuple(given.get("mean") or OPENAI_MEAN),
        std=tuple(given.get("std") or OPENAI_STD),
        color_profiles=ColorProfiles.TO_SRGB,
        artifacts={},
    )


def clip_config(configuration: Configuration) -> Any:
    """A CLIPConfig of transformers, or a MetaClip2Config, whose text tower pools the first token with `eos_id`.

    Of an encoder's checkpoint the text tower is to be replaced, so it is the smallest.
    """
    from transformers import CLIPConfig, MetaClip2Config

    vision = configuration.vision
    width = vision.get("width", 768)
    vision_config = {
        **_encoder(configuration, vision, width, vision.get("layers", 12), width // vision.get("head_width", 64)),
        "image_size": _side(configuration, "image_size"),
        "patch_size": _side(configuration, "patch_size"),
    }
    text = _SMALLEST if configuration.has_encoder else configuration.text
    text_config = {
        **_encoder(configuration, text, text.get("width", 512), text.get("layers", 12), text.get("heads", 8)),
        "vocab_size": text.get("vocab_size", 49_408),
        "max_position_embeddings": configuration.length,
        "eos_token_id": configuration.pooled_id or HIGHEST,
    }
    kind = CLIPConfig if configuration.pooled_id is None else MetaClip2Config
    return kind(text_config=text_config, vision_config=vision_config, projection_dim=configuration.dimensions)


def _encoder(configuration: Configuration, tower: Mapping[str, Any], width: int, layers: int, heads: int) -> Any:
    return {
        "hidden_size": width,
        "intermediate_size": int(width * tower.get("mlp_ratio", 4.0)),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_act": configuration.activation(tower),
        "layer_norm_eps": (tower.get("norm_kwargs") or {}).get("eps", 1e-5),
    }


def _check_architecture(source: str, vision: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    if timm := vision.get("timm_model_name"):
        hint = "; SigLIP is exported from Google's repositories (google/siglip2-...)" if "siglip" in timm else ""
        raise ExportError(f"{source}: its vision tower is timm's {timm}, which is not exported{hint}")
    if not isinstance(vision.get("layers", 12), int):
        raise ExportError(f"{source}: its vision tower is a ModifiedResNet, which is not exported")
    name = text.get("hf_model_name")
    if name and name not in XLM_ROBERTA:
        raise ExportError(f"{source}: its text tower is {name}; of transformers' encoders only XLM-R is exported")


def _check_settings(source: str, part: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise ExportError for a setting beyond `known` that changes the model."""
    for name, value in given.items():
        if name not in known and name not in _WITHOUT_EFFECT and value and value != _PLAIN.get(name):
            raise ExportError(f"{source}: {part} has {name} = {value!r}, which is not exported")
        if name == "norm_kwargs" and set(value or {}) - {"eps"}:
            raise ExportError(f"{source}: {part} has {name} = {value!r}; only eps is known")
        if name == "act_kwargs" and (value or {}) not in ({}, {"approximate": "tanh"}, {"approximate": "none"}):
            raise ExportError(f"{source}: {part} has {name} = {value!r}; only GELU's tanh form is known")


def _check_texts(source: str, text: Mapping[str, Any]) -> None:
    pooling, cleaning = text.get("pool_type", "argmax"), dict(text.get("tokenizer_kwargs") or {})
    if not text.get("hf_model_name") and pooling not in {"argmax", "eos"}:
        raise ExportError(f"{source}: its text tower pools by {pooling!r}; argmax and eos are known")
    usual = _CLEAN_OTHERS if text.get("hf_tokenizer_name") else _CLEAN_BPE
    if cleaning.pop("clean", usual) != usual or cleaning:
        raise ExportError(f"{source}: its tokenizer has {text['tokenizer_kwargs']}, which is not exported")
    pooler = text.get("hf_pooler_type", text.get("pooler_type", "mean_pooler"))
    if text.get("hf_model_name") and pooler != "mean_pooler":
        raise ExportError(f"{source}: its text tower pools by {pooler!r}; mean_pooler is known")
    projection = text.get("hf_proj_type", text.get("proj", "mlp"))
    if text.get("hf_model_name") and projection not in {"mlp", "linear"}:
        raise ExportError(f"{source}: its text tower projects by {projection!r}; mlp and linear are known")


def _side(configuration: Configuration, name: str) -> int:
    """`image_size` or `patch_size`, of squares only."""
    value = configuration.vision.get(name, {"image_size": 224, "patch_size": 16}[name])
    sides = {value} if isinstance(value, int) else set(value)
    if len(sides) != 1:
        raise ExportError(f"{configuration.source}: vision_cfg has {name} = {value!r}; only squares are exported")
    return int(sides.pop())
