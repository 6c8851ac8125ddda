"""From the bytes of pixels to embedded patches, with the normalisation folded into the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from siglip_edge.exporter.modules.layers import linear

GREY = 128.0
"""Bytes are centred before they are weighted. Uncentred, the mean brightness multiplies the rounding error of every
INT8 weight: on a random base tower the worst cosine is 0.984 with bytes from 0, 0.9993 with bytes around 128."""


def cut(pixel_values: Tensor, patch: int, grid: int) -> Tensor:
    """(n, 3, side, side) -> (n, grid^2, 3 * patch^2), each patch with its channels first.

    Pixels beyond the last whole patch are left out, as a convolution leaves them.
    """
    if pixel_values.shape[-1] != grid * patch:
        pixel_values = pixel_values[..., : grid * patch, : grid * patch]
    parts = pixel_values.view(-1, 3, grid, patch, grid, patch)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, grid**2, 3 * patch**2)


def patch_embedding(convolution: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[nn.Linear, float]:
    """Normalisation folded in. With x a byte, m = 255·mean, s = 1 / (255·std of the first channel), g = GREY:

        W·((x - m) / (255·std)) + b  =  (W·std_0/std)·((x - g)·s) + (b + sum W·(g - m) / (255·std))

    `s` stays outside (SigLIP's channels share it, CLIP's differ by 5 %): the weights keep a magnitude FP16 holds well.
    """
    return _normalising(convolution.weight, convolution.bias, mean, std, channels=1)


def linear_patch_embedding(layer: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[nn.Linear, float]:
    """As `patch_embedding`, of a linear layer whose patches have their channels last."""
    return _normalising(layer.weight.unflatten(1, (-1, 3)), layer.bias, mean, std, channels=2)


def _normalising(
    weight: Tensor, bias: Tensor | None, mean: tuple[float, ...], std: tuple[float, ...], *, channels: int
) -> tuple[nn.Linear, float]:
    """`channels`: axis of `weight` that has the channels; the first axis has the outputs."""
    weight = weight.detach().double()
    bias = torch.zeros(len(weight)).double() if bias is None else bias.detach().double()
    shape = [3 if axis == channels else 1 for axis in range(weight.dim())]
    means, stds = (torch.tensor(values, dtype=torch.float64).view(shape) for values in (mean, std))
    inputs = tuple(range(1, weight.dim()))
    folded_bias = bias + (weight * (GREY - 255.0 * means) / (255.0 * stds)).sum(dim=inputs)
    folded = weight * (std[0] / stds)
    return linear(folded.flatten(1).float(), folded_bias.float()), 1.0 / (255.0 * std[0])
