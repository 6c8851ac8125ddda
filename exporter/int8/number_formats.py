"""Which integer types carry an activation and a weight through a product, and on which CPUs the sum is right.

Value = scale · (code - zero point). Weights are symmetric; as uint8 their zero point is 128.

AVX2, and AVX-512 without VNNI, add two uint8 x int8 products in a saturating int16 (`pmaddubsw`). Whole 8-bit weights
pass its end: one base-size product is off by 9 % of its largest value (U8S8) or 13 % (S8S8) there and exact with VNNI,
which adds four in 32 bits. onnxruntime's switch against it (`session.x64quantprecision`) turns such weights into uint8
on every x64 CPU, those with VNNI too, where U8U8 takes three times as long; so the weights are limited instead.
(`bench/older_cpu.c` shows a new CPU as an old one.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.machine.cpu import INT8_DOT_PRODUCTS


@dataclass(frozen=True, kw_only=True)
class Format:
    name: str
    signed_activation: bool = False
    signed_weight: bool = True
    limited: bool = False
    """Neighbouring weights are limited so that their two products fit an int16 (`recipes.PAIR_LIMIT`)."""

    @property
    def safe_everywhere(self) -> bool:
        """No CPU's sums saturate: U8U8 is added in 32 bits everywhere."""
        return self.limited or not (self.signed_activation or self.signed_weight)

    def activation_zero(self, zero: np.uint8) -> NDArray[np.generic]:
        """The zero point of a uint8 code, in this format."""
        return np.asarray(np.int8(int(zero) - 128) if self.signed_activation else zero)

    def weight_codes(self, codes: NDArray[np.int8]) -> NDArray[np.generic]:
        """Symmetric codes, in this format."""
        return codes if self.signed_weight else (codes.astype(np.int16) + 128).astype(np.uint8)

    def weight_zeros(self, count: int) -> NDArray[np.generic]:
        return self.weight_codes(np.zeros(count, np.int8))


CANONICAL = Format(name="U8S8, neighbouring weights limited", limited=True)
U8U8 = Format(name="U8U8", signed_weight=False)
FORMATS = (
    CANONICAL,
    U8U8,
    Format(name="U8S8"),
    Format(name="S8S8", signed_activation=True),
)


def measurable(isa: Collection[str]) -> list[Format]:
    """The formats whose sums are right on a CPU with these flags (`runtime.machine.cpu`)."""
    return [one for one in FORMATS if one.safe_everywhere or INT8_DOT_PRODUCTS.intersection(isa)]
