"""A Hugging Face SigLIP or SigLIP2 checkpoint, opened, and the contract it was trained with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.family import Checkpoint

_CONTRACT_PROBES = ("a photo of 2 cats", "Ünïcödé, ¿qué?", "红色的苹果", "  two  spaces ", "emoji 👩‍🚀!", "")


@dataclass(frozen=True, kw_only=True)
class SiglipCheckpoint(Checkpoint):
    """A transformers.SiglipModel, and how its inputs are prepared."""

    tokenizer_json: str
    """`tokenizers` serialization: adds EOS, no BOS, no padding, no truncation."""
    length: int
    pad_id: int
    eos_id: int
    strip_punctuation: bool
    resample: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def image_size(self) -> int:
        return int(self.model.config.vision_config.image_size)

    @property
    def patch_size(self) -> int:
        return int(self.model.config.vision_config.patch_size)


def load_checkpoint(source: str) -> SiglipCheckpoint:
    """Open a hub id or a local directory. Raises ExportError that names what is missing."""
    image = load_image_processor(source)
    return SiglipCheckpoint(**fields_of(source, load_model(source, "SiglipModel"), image))


def fields_of(source: str, model: Any, image: Any) -> dict[str, Any]:
    """The fields of a SiglipCheckpoint. `image`: the image processor. Raises ExportError."""
    tokenizer = _load_tokenizer(source)
    slow = not tokenizer.is_fast
    return {
        "source": source,
        "model": model,
        "tokenizer_json": _unigram_json(tokenizer) if slow else _fast_json(tokenizer),
        "length": model.config.text_config.max_position_embeddings,
        "pad_id": tokenizer.pad_token_id,
        "eos_id": tokenizer.eos_token_id,
        # Only SigLIP's own tokenizer (slow, SentencePiece) was trained on canonicalised text; SigLIP2's is Gemma's.
        "strip_punctuation": slow,
        "resample": Image.Resampling(image.resample).name.lower(),
        "mean": tuple(image.image_mean),
        "std": tuple(image.image_std),
    }


def load_model(source: str, model_class: str) -> Any:
    """The model of transformers with that name of a class, in float32. Raises ExportError."""
    import torch
    import transformers

    try:
        kind = getattr(transformers, model_class)
        model, loaded = kind.from_pretrained(
            source, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    except Exception as error:  # damaged files make transformers and safetensors raise any type
        raise ExportError(f"{source}: the weights cannot be loaded ({_first_line(error)})") from error
    if missing := sorted([*loaded["missing_keys"], *loaded["mismatched_keys"]]):
        raise ExportError(f"{source}: {len(missing)} of its weights are missing, for example {missing[0]}")
    if not model.vision_model.use_head:
        raise ExportError(f"{source}: its vision tower has no pooling head, so it has no image embedding")
    return model.eval().requires_grad_(requires_grad=False)


def load_image_processor(source: str) -> Any:
    """The checkpoint's image processor in transformers. Raises ExportError."""
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(source, use_fast=False)
    except Exception as error:
        raise ExportError(f"{source}: no preprocessor_config.json that can be read ({_first_line(error)})") from error
    if getattr(processor, "do_center_crop", False):
        raise ExportError(
            f"{source}: its processor crops; SigLIP squashes to a square. Is preprocessor_config.json its own?"
        )
    return processor


def _load_tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise ExportError(f"{source}: no tokenizer that can be loaded ({_first_line(error)})") from error
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise ExportError(f"{source}: its tokenizer has no padding or no end-of-sequence token; SigLIP needs both")
    return tokenizer


def _fast_json(tokenizer: Any) -> str:
    """SigLIP2: Gemma's tokenizer with `bos='no', eos='sticky'` (big_vision's SigLIP2 configuration)."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    eos = tokenizer.eos_token
    backend.post_processor = TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, tokenizer.eos_token_id)])
    return str(backend.to_str())


def _unigram_json(tokenizer: Any) -> str:
    """SigLIP: a slow SentencePiece tokenizer, rewritten for `tokenizers` and proven equal on the probes."""
    from tokenizers import Tokenizer, processors
    from transformers.convert_slow_tokenizer import SpmConverter

    class SiglipConverter(SpmConverter):  # type: ignore[misc]
        def post_processor(self) -> Any:
            eos = self.original_tokenizer.eos_token
            special = [(eos, self.original_tokenizer.eos_token_id)]
            return processors.TemplateProcessing(single=f"$A {eos}", special_tokens=special)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # byte fallback is not lost: these models have none
        backend: Tokenizer = SiglipConverter(tokenizer).converted()
    for probe in _CONTRACT_PROBES:
        text = " ".join(tokenizer.remove_punctuation(probe.lower()).split())
        if backend.encode(text).ids != tokenizer(probe)["input_ids"]:
            raise ExportError(
                f"{tokenizer.name_or_path}: its tokenizer cannot be rewritten exactly (differs on {probe!r})"
            )
    return str(backend.to_str())


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
