"""Random changes to a batch of pictures, in tensor operations, so that two cores augment faster than they train.

The vendors draw one concept flat, shaded, outlined or in one colour, and a tower that has seen eight drawings of a dog
must know the ninth. Everything here is meant to make style cheap to ignore: without it the tower memorises.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

# Drawings whose mirror image means something else: arrows, digits, letters, clock hands, flags, who faces where.
ONE_HANDED = re.compile("left|right|arrow|clock|thirty|button|keycap|input|letter|moon|flag|facing|mark|sign")

ROTATION = 0.22  # radians, standard deviation: about 13 degrees
SHEAR = 0.12
SHIFT = 0.10  # of half the picture's side
SCALE = (0.65, 1.15)  # of the picture's side, drawn evenly in the logarithm
ASPECT = 0.12  # standard deviation of the logarithm of width over height
HUE = 0.35  # radians, standard deviation
GREY, INVERT, OUTLINE = 0.2, 0.06, 0.08  # shares of the batch drawn grey, in negative, as lines only
COLOURED = 0.4  # share of backgrounds not left white


def may_flip(slugs: list[str]) -> Tensor:
    """(N,) bool: whether the mirror image is still a picture of the same concept."""
    return torch.tensor([ONE_HANDED.search(slug) is None for slug in slugs])


def to_pixels(rgba: Tensor) -> Tensor:
    """(B, S, S, 4) uint8 -> (B, 3, S, S) float32 in [-1, 1] over white: what serving computes for the same picture."""
    colour, alpha = _premultiplied(rgba)
    return (colour + 1 - alpha) * 2 - 1


def augment(rgba: Tensor, flippable: Tensor, strength: float = 1.0) -> Tensor:
    """(B, S, S, 4) uint8, (B,) bool -> (B, 3, S, S) float32 in [-1, 1]. `strength` 0 changes nothing."""
    colour, alpha = _premultiplied(rgba)
    moved = _warp(torch.cat((colour, alpha), dim=1), flippable, strength)
    colour, alpha = moved[:, :3], moved[:, 3:]
    colour = _recolour(colour, alpha, strength)
    picture = _sharpen(colour + (1 - alpha) * _backgrounds(len(rgba), strength), strength)
    return _outline(picture, strength).clamp(0, 1) * 2 - 1


def _premultiplied(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """Colour already weighted by alpha, so that warping and blending are plain sums."""
    planes = rgba.permute(0, 3, 1, 2).float() / 255
    return planes[:, :3] * planes[:, 3:], planes[:, 3:]


def _uniform(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count) * (high - low) + low


def _chosen(count: int, share: float) -> Tensor:
    return torch.rand(count) < share


def _warp(planes: Tensor, flippable: Tensor, strength: float) -> Tensor:
    """Rotate, scale, stretch, shear, shift, and mirror half of the pictures that may be."""
    count = len(planes)
    angle = torch.randn(count) * ROTATION * strength
    scale = torch.exp(strength * _uniform(count, math.log(SCALE[0]), math.log(SCALE[1])))
    stretch = torch.exp(torch.randn(count) * ASPECT / 2 * strength)
    mirror = torch.where(flippable & _chosen(count, 0.5 * strength), -1.0, 1.0)
    cos, sin, shear = angle.cos(), angle.sin(), torch.randn(count) * SHEAR * strength
    shift = torch.randn(count, 2) * SHIFT * strength
    # grid_sample asks where each output pixel comes from, so this is the inverse map.
    across = torch.stack((cos * mirror / (scale * stretch), (shear - sin) * mirror / (scale * stretch), shift[:, 0]), 1)
    down = torch.stack((sin * stretch / scale, cos * stretch / scale, shift[:, 1]), 1)
    grid = F.affine_grid(torch.stack((across, down), 1), list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _recolour(colour: Tensor, alpha: Tensor, strength: float) -> Tensor:
    """One random colour matrix a picture: turn the hue, change saturation, brightness and contrast, grey, negative."""
    count = len(colour)
    saturation = 1 + strength * _uniform(count, -0.7, 0.6)[:, None, None]
    saturation = torch.where(_chosen(count, GREY * strength)[:, None, None], 0.0, saturation)
    grey = torch.full((3, 3), 1 / 3)
    matrix = saturation * _hue_turns(torch.randn(count) * HUE * strength) + (1 - saturation) * grey
    contrast = 1 + strength * _uniform(count, -0.4, 0.3)[:, None, None]
    offset = 0.5 * (1 - contrast) + torch.randn(count, 1, 1) * 0.1 * strength
    negative = torch.where(_chosen(count, INVERT * strength), -1.0, 1.0)[:, None, None]
    matrix, offset = matrix * contrast * negative, torch.where(negative < 0, 1 - offset, offset)
    turned = torch.bmm(matrix, colour.flatten(2)).view_as(colour) + offset[..., None] * alpha
    return torch.minimum(turned.clamp(min=0), alpha)


def _hue_turns(radians: Tensor) -> Tensor:
    """(B,) -> (B, 3, 3) rotations of colour space about its grey axis (Rodrigues' formula)."""
    angle = radians[:, None, None]
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return torch.eye(3) * angle.cos() + axis * angle.sin() + (1 - angle.cos()) / 3


def _backgrounds(count: int, strength: float) -> Tensor:
    """(count, 3, 1, 1): white, or any colour."""
    return torch.where(_chosen(count, 1 - COLOURED * strength)[:, None], 1.0, torch.rand(count, 3))[..., None, None]


def _sharpen(picture: Tensor, strength: float) -> Tensor:
    """Between blurred and sharpened: stands for other sources and other resampling filters."""
    blurred = F.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
    return picture + (blurred - picture) * strength * _uniform(len(picture), -0.5, 0.9)[:, None, None, None]


def _outline(picture: Tensor, strength: float) -> Tensor:
    """Turn a few pictures into dark lines on white: where a pixel differs from its surroundings."""
    grey = picture.mean(dim=1, keepdim=True)
    edge = (grey - F.avg_pool2d(grey, 5, stride=1, padding=2, count_include_pad=False)).abs()
    lines = (1 - 6 * edge).clamp(0, 1).expand_as(picture)
    return torch.where(_chosen(len(picture), OUTLINE * strength)[:, None, None, None], lines, picture)
