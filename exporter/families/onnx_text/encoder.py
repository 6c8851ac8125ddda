"""BERT and its relatives, as weights: what a graph is read for, and what a tower is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An operator and its attributes."""

    operator: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """weight (inputs, outputs), bias (outputs,)."""

    weight: Floats
    bias: Floats
    given: str
    """Name of the value that it multiplies."""


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A LayerNorm over the last axis."""

    weight: Floats
    bias: Floats
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    mlp_norm: Norm


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Tables are (rows, width), whole."""

    tokens: Floats
    positions: Floats
    token_types: Floats
    norm: Norm
    layers: Sequence[Layer]
    heads: int
    activation: Activation
