"""Text that tokenizers of random checkpoints are trained on."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SCRIPTS = (
    (0x61, 26),
    (0x430, 32),
    (0x3B1, 24),
    (0x5D0, 27),
    (0x627, 28),
    (0x905, 50),
    (0xE01, 46),
    (0xAC00, 2000),
    (0x4E00, 6000),
)
"""First code point and number of letters of each alphabet for made-up words."""


def made_up_lines(vocabulary: int, rng: random.Random) -> Iterator[str]:
    """Python's sources, and words of nine scripts: enough for a vocabulary of this size."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for path in sources[: max(8, vocabulary // 1000)]:
        yield from path.read_text(encoding="utf-8", errors="replace").lower().splitlines()
    for _ in range(vocabulary * 4):
        first, letters = SCRIPTS[min(int(rng.expovariate(0.5)), len(SCRIPTS) - 1)]
        syllables = (
            "".join(chr(first + rng.randrange(letters)) for _ in range(rng.choice((1, 2, 2)))) for _ in range(3)
        )
        yield " " + "".join(syllables)
