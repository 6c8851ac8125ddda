"""The time after which a refused client may try again."""

from __future__ import annotations

import random

LONGEST_S = 60.0
"""Longest delay, unless the backlog is longer. OpenAI's Python client ignores delays of more than two minutes."""

SPREAD_S = 8.0
"""Least number of seconds between the shortest and the longest delay. With two seconds, so many clients return together
that more are refused again, which costs CPU time (docs/decisions/retry-after.md)."""

_BACKLOGS = 4.0
"""Longest delay as a multiple of the backlog, which is an estimate and grows by requests that arrive meanwhile."""


def retry_after(backlog_s: float) -> float:
    """-> seconds from now: a random moment after the backlog, so that clients refused together return apart."""
    latest_s = min(max(backlog_s + SPREAD_S, _BACKLOGS * backlog_s), LONGEST_S)
    return random.uniform(backlog_s, max(backlog_s, latest_s))  # noqa: S311 - nothing is kept secret by it
