"""Write and read the demo model as a Hugging Face checkpoint directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import SiglipImageProcessor, SiglipModel

from demo.model import SIDE
from demo.pictures import HERE
from demo.tokenizer import save_tokenizer

CHECKPOINT = HERE / "checkpoint"


def halved(model: SiglipModel) -> SiglipModel:
    """Round every weight to float16 in place, so that what is evaluated is what is shipped."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model


def save_checkpoint(model: SiglipModel, tokenizer: Tokenizer, folder: Path = CHECKPOINT) -> None:
    """Weights (as float16: half the size), configuration, tokenizer, image processor. Whole or not at all."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    model.float().save_pretrained(part)  # config.json says float32: that is what the weights are to be loaded as
    weights = {
        name: tensor.half().contiguous() for name, tensor in model.state_dict().items() if tensor.is_floating_point()
    }
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    (part / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, part)
    image_processor().save_pretrained(part)
    old = folder.with_suffix(".old")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def image_processor() -> SiglipImageProcessor:
    """Squash to a square, bilinear as SigLIP2 ships it, values in [-1, 1]."""
    return SiglipImageProcessor(
        size={"height": SIDE, "width": SIDE}, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True
    )


def load_checkpoint(folder: Path = CHECKPOINT) -> tuple[SiglipModel, Tokenizer]:
    model = SiglipModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))
