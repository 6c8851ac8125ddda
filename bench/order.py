"""The order for one run of `siglip-edge bench`: the model, the other servers, and the effort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Effort:
    clients: int = 8
    rounds: int = 3
    turns: int = 8
    """Turns of our server per round, between turns of bare session calls."""
    seconds: float = 3.0
    """Measured seconds per such turn, after `warm_up_s`: short, because a machine keeps its speed only for seconds."""
    other_turns: int = 2
    """Turns of each other server per round, between turns of our server."""
    other_seconds: float = 6.0
    """Measured seconds per such turn: other servers take seconds per answer."""
    warm_up_s: float = 1.5
    levels: tuple[int, ...] = (8, 64, 256)
    """Numbers of clients. Every level is compared with the first level."""
    level_rounds: int = 16
    """More rounds than other loads have: the rate of a turn varies by a tenth, and LOSS is only a twentieth."""
    level_warm_up_s: float = 5.0
    """About the time in which the longest queue fills."""
    level_seconds: float = 6.0
    starts: int = 5
    other_starts: int = 2
    infinity_warm_up: bool = True
    """Whether infinity starts with its own warm-up, which takes a minute on two cores."""
    requests: int = 500
    """Requests before memory is read; texts and images in turn."""
    request_seconds: float = 20.0
    """Other servers get as many of these requests as they answer in this time."""
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
"""Runs everything once, to see that it works. The figures mean nothing."""


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
