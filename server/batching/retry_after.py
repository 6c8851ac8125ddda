"""When a refused client may ask again."""

from __future__ import annotations

import random

LONGEST_S = 60.0
"""Longest answer, unless the backlog is longer: OpenAI's Python client does not ask again after two minutes."""

SPREAD_S = 8.0
"""At least so many seconds lie between the earliest and the latest answer. With two, returning clients of a small model
are refused again so often that its texts take 16 % more CPU time."""

_BACKLOGS = 4.0


def retry_after(backlog_s: float) -> float:
    """-> seconds from now: after the backlog, at a random moment, so that clients refused together return apart."""
    latest_s = min(max(backlog_s + SPREAD_S, _BACKLOGS * backlog_s), LONGEST_S)
    return random.uniform(backlog_s, max(backlog_s, latest_s))  # noqa: S311 - nothing is kept secret by it
