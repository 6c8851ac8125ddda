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
    weight = convolution.weight.detach().double()
    bias = torch.zeros(len(weight)).double() if convolution.bias is None else convolution.bias.detach().double()
    means, stds = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (mean, std))
    folded_bias = bias + (weight * (GREY - 255.0 * means) / (255.0 * stds)).sum(dim=(1, 2, 3))
    folded = weight * (std[0] / stds)
    return linear(folded.flatten(1).float(), folded_bias.float()), 1.0 / (255.0 * std[0])
