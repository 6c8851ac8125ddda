"""What rounding did to a linear layer, undone as far as its codes and its bias can: closed forms, on calibration rows.

Codes are rounded so that they cancel the errors of the codes before them, as in INT4 (`int4/gptq.py` has the formulas),
and the mean error that is left in each output channel goes into the bias. docs/decisions/int8-by-cancellation.md has
the figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

DAMPING = 0.05
"""Share of the inputs' mean square that is added to each: rows that were not seen move in other directions, too. 0.01
fits the calibration rows better, and other rows worse. More where there are fewer inputs than dimensions."""

PAIR_END = 128
"""Greatest sum of two neighbouring codes of one sign: 255 · 128 is below 2^15 (`layer_quantization.PAIR_LIMIT`)."""

_BLOCK = 64
"""Rows whose earlier errors are added by one product of matrices."""


def cancelling_codes(weight: Doubles, inputs: Doubles, scale: Doubles, reach: int) -> NDArray[np.int8]:
    """Codes of `weight` (k, n) for inputs like `inputs` (m, k), at most `reach` and such that PAIR_END holds.

    `scale`: (n,). Row by row: each is rounded towards what cancels the error in the output of the rows before it.
    """
    triangle = factor(inputs)
    pull: Doubles = triangle / np.diag(triangle)
    error, codes = np.zeros_like(weight), np.zeros(weight.shape)
    for start in range(0, len(weight), _BLOCK):
        wanted = weight[start : start + _BLOCK] + pull[:start, start : start + _BLOCK].T @ error[:start]
        for row in range(start, start + len(wanted)):
            target = wanted[row - start] + pull[start:row, row] @ error[start:row]
            low, high = _room(codes[row - 1], reach) if row % 2 else (-reach, reach)
            codes[row] = np.clip(np.rint(target / scale), low, high)
            error[row] = weight[row] - scale * codes[row]
    return codes.astype(np.int8)


def factor(sample: Doubles) -> Doubles:
    """(m, k) -> the upper triangular R, (k, k), of R R' = X'X / m + damping."""
    gram = sample.T @ sample / len(sample)
    share = DAMPING * max(1.0, len(gram) / len(sample))
    gram[np.diag_indices_from(gram)] += max(share * gram.trace() / len(gram), 1e-30)
    lower = np.linalg.cholesky(gram[::-1, ::-1])
    return np.ascontiguousarray(lower[::-1, ::-1])


def _room(neighbour: Doubles, reach: int) -> tuple[Doubles, Doubles]:
    """The least and the greatest code beside `neighbour`."""
    low = np.maximum(-reach, -PAIR_END - np.minimum(neighbour, 0))
    return low, np.minimum(reach, PAIR_END - np.maximum(neighbour, 0))
