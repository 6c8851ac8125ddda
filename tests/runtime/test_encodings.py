"""Embeddings as bytes and bits."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_edge.runtime import encodings
from siglip_edge.runtime.scoring import l2_normalize


def vector(*numbers):
    return np.array(numbers, np.float32)


def test_int8_is_127_times_the_number_rounded():
    """One is 127 and minus one -127; -128 does not occur."""
    encoded = encodings.int8(vector(1, -1, 0, 0.25, -0.25))
    assert encoded.tolist() == [127, -127, 0, 32, -32]
    assert encoded.dtype == np.int8


def test_uint8_lays_minus_one_to_one_over_0_to_255():
    """Zero is 127.5 and goes to the even 128."""
    encoded = encodings.uint8(vector(1, -1, 0, 0.5, -0.5))
    assert encoded.tolist() == [255, 0, 128, 191, 64]
    assert encoded.dtype == np.uint8


def test_bits_are_the_signs_with_the_first_in_front():
    """Positive numbers are ones, zero is none; the first number is the most significant bit."""
    unit = vector(0.1, -0.1, 0, 0.2, -0.3, -0.3, -0.3, 0.9)
    assert encodings.ubinary(unit).tolist() == [0b10010001]
    assert encodings.binary(unit).tolist() == [0b10010001 - 128]


def test_binary_is_an_offset_and_not_the_twos_complement():
    """All ones are 255 - 128 = 127, no ones -128."""
    assert encodings.binary(np.ones(8, np.float32)).tolist() == [127]
    assert encodings.binary(-np.ones(8, np.float32)).tolist() == [-128]


@pytest.mark.parametrize(("numbers", "size"), [(1, 1), (8, 1), (9, 2), (12, 2), (768, 96)])
def test_zero_bits_fill_the_last_byte(numbers, size):
    """A length that is no multiple of eight ends with zero bits."""
    packed = encodings.ubinary(np.ones(numbers, np.float32))
    assert len(packed) == size
    assert np.unpackbits(packed).tolist() == [1] * numbers + [0] * (8 * size - numbers)


def test_no_unit_vector_leaves_the_range():
    """The longest component of a unit vector can exceed one by a rounding error; it stays 127 and 255."""
    unit = l2_normalize(np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32))
    unit[0] = vector(np.nextafter(np.float32(1), np.float32(2)), 0, 0)
    unit[1] = -unit[0]
    for row in unit:
        assert np.abs(encodings.int8(row) / 127 - row).max() <= 0.5 / 127 + 1e-6
        assert np.abs(encodings.uint8(row) / 127.5 - 1 - row).max() <= 0.5 / 127.5 + 1e-6


def test_float32_is_little_endian_and_exact():
    """Little-endian on every machine, with every bit kept."""
    unit = vector(0.6, -0.8)
    assert encodings.float32(unit).tobytes() == np.array([0.6, -0.8], "<f4").tobytes()
