"""Weights in blocks of 4 or 8 bits, each rounded so that it cancels the errors of the weights before it.

Frantar et al. 2022, "GPTQ", here as successive cancellation: with E the error of a matrix and G = X'X of its input, the
error of the output is tr(E' G E). For the triangular factor R of G = R R' that is the sum over rows i of
|R_ii e_i + sum_{j<i} R_ji e_j|², so row i is rounded towards what cancels the sum of the rows before it. Rounding every
weight to its nearest code, with the best scales, leaves two to six times a layer's error on the demo model.

All of it is computed in float64, and only scales are rounded to float32: kernels of another CPU change the last digits
of a sum, and in float32 these digits became other scales and codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.int8.cancellation import Doubles, factor

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

BLOCK = 32
"""Weights of a column that share a scale and a zero point: 5.1 bits a weight in all. With 64, the demo model's towers
lose 17 to 30 % more, for 4.6 bits; with 16, 9 to 30 % less, for 6.1."""

_SHRINKING = np.linspace(1.0, 0.7, 7)
"""Shares of a block's full range that are tried: a narrower one rounds all but the largest weights more finely."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A matrix (k, n): value = scale · (code - zero point)."""

    bits: int
    codes: Codes
    """(blocks · BLOCK, n); rows beyond k are zeros."""
    scale: Floats
    """(blocks, n)"""
    zero: Codes
    """(blocks, n)"""
    error: float
    """Squared error of the output over its square, on the calibration sample."""

    @property
    def values(self) -> Floats:
        """(blocks · BLOCK, n)"""
        offsets = self.codes.astype(np.float32) - np.repeat(self.zero, BLOCK, axis=0)
        return offsets * np.repeat(self.scale, BLOCK, axis=0)


def in_blocks(weight: Floats, sample: Floats, bits: int) -> Blocks:
    """Round `weight` (k, n) for inputs like `sample` (m, k)."""
    rows = -len(weight) % BLOCK
    exact = np.pad(weight.astype(np.float64), ((0, rows), (0, 0)))
    inputs = np.pad(sample.astype(np.float64), ((0, 0), (0, rows)))
    codes, scale, zero = _cancelling(exact, factor(inputs), 2**bits - 1)
    rounded = Blocks(bits=bits, codes=codes, scale=scale, zero=zero, error=0.0)
    off, output = inputs @ (rounded.values - exact), inputs @ exact
    error = float(np.square(off).mean() / max(float(np.square(output).mean()), 1e-30))
    return replace(rounded, error=error)


def _cancelling(weight: Doubles, factor: Doubles, top: int) -> tuple[Codes, Floats, Codes]:
    """Codes 0 to `top`, scales and zero points, row by row, each block's scales chosen when its turn comes."""
    diagonal = np.diag(factor).copy()
    pull: Doubles = factor / diagonal  # of an earlier row's error on a later row
    error, codes, scales, zeros = np.zeros_like(weight), np.empty(weight.shape, np.uint8), [], []
    for start in range(0, len(weight), BLOCK):
        own = slice(start, start + BLOCK)
        wanted = weight[own] + pull[:start, own].T @ error[:start]
        scale, zero = _best_scale(wanted, np.square(diagonal[own]), top)
        for row in range(start, start + BLOCK):
            target = wanted[row - start] + pull[start:row, row] @ error[start:row]
            codes[row] = code = np.clip(np.rint(target / scale) + zero, 0, top)
            error[row] = weight[row] - scale * (code - zero)
        scales.append(scale)
        zeros.append(zero.astype(np.uint8))
    return codes, np.stack(scales), np.stack(zeros)


def _best_scale(values: Doubles, importance: Doubles, top: int) -> tuple[Floats, Floats]:
    """Scales and zero points (n,) of one block (BLOCK, n) with the least error, rows weighted by `importance`."""
    least = np.full(values.shape[1], np.inf)
    best_scale, best_zero = np.empty_like(least), np.empty_like(least)
    weights = importance[:, None]
    for share in _SHRINKING:
        low, high = np.minimum(values.min(axis=0), 0) * share, np.maximum(values.max(axis=0), 0) * share
        scale = np.maximum((high - low) / top, np.finfo(np.float32).tiny * top)
        zero = np.rint(-low / scale)
        steps = np.clip(np.rint(values / scale), -zero, top - zero)
        squares = np.maximum((weights * steps**2).sum(axis=0), 1e-30)
        fitted = np.where(steps.any(axis=0), (weights * steps * values).sum(axis=0) / squares, scale)
        error = (weights * np.square(steps * fitted - values)).sum(axis=0)
        better = error < least
        least, best_scale = np.where(better, error, least), np.where(better, fitted, best_scale)
        best_zero = np.where(better, zero, best_zero)
    return best_scale.astype(np.float32), best_zero.astype(np.float32)
