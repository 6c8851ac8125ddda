"""The order for one run: subjects and number of turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Effort:
    clients: int = 8
    rounds: int = 3
    turns: int = 8
    """Turns of our server between bare session calls, per round."""
    seconds: float = 3.0
    """Counted seconds of such a turn, after `warm_up_s`. Few: a machine keeps its speed for some seconds."""
    other_turns: int = 2
    """Turns of each other server between turns of ours, per round."""
    other_seconds: float = 6.0
    """Counted seconds of such a turn: other servers take seconds per answer."""
    warm_up_s: float = 1.5
    levels: tuple[int, ...] = (8, 64, 256)
    """Numbers of clients; every level is compared with the first."""
    level_rounds: int = 16
    """More than other loads have: each turn scatters by a tenth, and the limit is a loss of a twentieth."""
    level_warm_up_s: float = 5.0
    """About the time of the longest queue: until then the queue only grows."""
    level_seconds: float = 6.0
    starts: int = 5
    other_starts: int = 2
    infinity_warm_up: bool = True
    """Whether infinity's own warm-up, a minute of two cores, counts as a part of its start."""
    requests: int = 500
    """Requests, texts and images in turn, before memory is read."""
    request_seconds: float = 20.0
    """Other servers get as many of them as they answer in this time."""
    rest_s: float = 3.0
    """Seconds without requests before memory is read a second time."""
    idle_s: float = 10.0
    large_jpegs: int = 5
    jpeg_repeats: int = 3


QUICK = Effort(
    clients=4,
    rounds=1,
    turns=1,
    seconds=0.3,
    other_turns=1,
    other_seconds=0.3,
    warm_up_s=0.1,
    levels=(4, 128),
    level_rounds=1,
    level_warm_up_s=0.1,
    level_seconds=0.3,
    starts=1,
    other_starts=1,
    infinity_warm_up=False,
    requests=20,
    request_seconds=1.0,
    rest_s=0.0,
    idle_s=0.2,
    large_jpegs=1,
    jpeg_repeats=1,
)
"""Everything once, to see that it runs. The figures mean nothing."""


@dataclass(frozen=True, kw_only=True)
class Order:
    model: Path
    photos: Path | None = None
    checkpoint: Path | None = None
    """The checkpoint that the model was exported from, for the other servers."""
    pytorch: Path | None = None
    """Interpreter with torch, transformers, fastapi and uvicorn."""
    infinity: Path | None = None
    """Interpreter with infinity-emb."""
    effort: Effort = Effort()
