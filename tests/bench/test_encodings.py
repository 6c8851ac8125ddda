"""The measure of what an encoding costs."""

from __future__ import annotations

import numpy as np

from siglip_edge.bench.encodings import kept
from siglip_edge.runtime.scoring import l2_normalize


def test_float_keeps_everything_and_bits_the_least():
    """The reference agrees with itself; a byte per number keeps more neighbours than a bit."""
    vectors = l2_normalize(np.random.default_rng(0).standard_normal((60, 64)).astype(np.float32))
    found = kept(vectors)
    assert found["float"] == (256, 1.0, 1.0)
    assert (found["int8"][0], found["uint8"][0], found["ubinary"][0]) == (64, 64, 8)
    assert 0.9 < found["int8"][2] < 1.0
    assert 10 / 59 < found["ubinary"][2] < found["int8"][2]
