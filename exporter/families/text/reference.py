"""The original implementation: transformers' model and sentence-transformers' arithmetic around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.text.layout import Dense, Layout, Pooling, file_of

_UNUSED = ("pooler.",)
"""BERT's own pooler, which no text encoder uses: many checkpoints lack its weights."""


class DenseStep(nn.Module):  # type: ignore[misc]
    """(n, inputs) -> (n, outputs)."""

    def __init__(self, spec: Dense) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.inputs, spec.outputs, bias=spec.has_bias)
        self.activation = getattr(nn, spec.activation)()

    def forward(self, pooled: Tensor) -> Tensor:
        return torch.as_tensor(self.activation(self.linear(pooled)))


class NormalizeStep(nn.Module):  # type: ignore[misc]
    def forward(self, pooled: Tensor) -> Tensor:
        return nn.functional.normalize(pooled, p=2, dim=1)


class SentenceModel(nn.Module):  # type: ignore[misc]
    """ids and mask, int64 (n, length) -> (n, dimensions)."""

    def __init__(self, transformer: Any, layout: Layout) -> None:
        super().__init__()
        self.transformer, self.pooling = transformer, layout.pooling
        self.after = nn.ModuleList(
            DenseStep(step) if isinstance(step, Dense) else NormalizeStep() for step in layout.after
        )

    @property
    def dimensions(self) -> int:
        widths = [step.linear.out_features for step in self.after if isinstance(step, DenseStep)]
        return int([self.transformer.config.hidden_size, *widths][-1])

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = self._pooled(hidden, mask)
        for step in self.after:
            pooled = step(pooled)
        return torch.as_tensor(pooled)

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        if self.pooling is Pooling.FIRST:
            return hidden[:, 0]
        if self.pooling is Pooling.LAST:
            return hidden[torch.arange(len(hidden)), mask.sum(dim=1) - 1]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def load_model(source: str, layout: Layout) -> SentenceModel:
    """With every weight, float32. Raises ExportError when one is missing."""
    model = SentenceModel(_load_transformer(source), layout)
    for spec, step in zip(layout.after, model.after, strict=True):
        if isinstance(spec, Dense):
            _load_dense(source, spec, step)
    width = model.transformer.config.hidden_size
    for spec in (step for step in layout.after if isinstance(step, Dense)):
        if spec.inputs != width:
            raise ExportError(f"{source}: {spec.folder} takes {spec.inputs} numbers, but gets {width}")
        width = spec.outputs
    model.eval().requires_grad_(requires_grad=False)
    return model


def _load_transformer(source: str) -> Any:
    from transformers import AutoModel

    try:
        model, loaded = AutoModel.from_pretrained(
            source, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    except Exception as error:  # damaged files make transformers and safetensors raise any type
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: the weights cannot be loaded ({reason})") from error
    unloaded = sorted([*loaded["missing_keys"], *map(str, loaded["mismatched_keys"])])
    if missing := [name for name in unloaded if not name.startswith(_UNUSED)]:
        raise ExportError(f"{source}: {len(missing)} of its weights are missing, for example {missing[0]}")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # its weights may be random, and would be part of the space
    return model


def _load_dense(source: str, spec: Dense, step: DenseStep) -> None:
    whole = file_of(source, f"{spec.folder}/model.safetensors")
    pickled = None if whole else file_of(source, f"{spec.folder}/pytorch_model.bin")
    if whole is None and pickled is None:
        raise ExportError(f"{source}: {spec.folder} has no model.safetensors and no pytorch_model.bin")
    try:
        step.load_state_dict(_read(whole) if whole else torch.load(pickled, map_location="cpu", weights_only=True))
    except Exception as error:  # damaged files make torch and safetensors raise any type
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: the weights of {spec.folder} cannot be loaded ({reason})") from error


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(path).items()}
