"""Variables that look like settings and are none: a typing error must not be ignored without a word."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

_PREFIXES = ("SIGLIPEDGE", "SIGLIP2", "SIGLIP", "EMBEDDING", "UVICORN", "GUNICORN")
"""Put before a setting's name by people who expect a namespace, or by other servers' documents."""

_NEAR = 0.85
"""Similarity of two names, from 0 to 1. BATCHSISE and BATCHSIZE have 0.89, LOGNAME and LOGLEVEL 0.53."""
_SHORTEST = 5
"""Fewer letters are near to too many words: MODE is no MODEL."""

_LINK = re.compile(r"(tcp|udp|sctp)://")
"""Start of a value that a container engine sets: a service called siglip-edge gives SIGLIP_EDGE_PORT=tcp://10.0.0.1:80."""

_OTHERS = {"WEB_CONCURRENCY": "WORKERS"}
"""Variable of another program that says what a setting says -> the setting."""


def about_unknown_names(environ: Mapping[str, str], file: Mapping[str, str], known: Collection[str]) -> list[str]:
    """-> a sentence per variable that is no setting: of the environment, those that look like one; of `.env`, all."""
    return [*_in_environment(environ, known), *_in_file(file, known)]


def _in_environment(environ: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    for name, value in environ.items():
        if name in known or _LINK.match(value):
            continue
        if nearest := nearest_name(name, known):
            yield f"{name} is no setting and has no effect; did you mean {nearest}?"


def _in_file(file: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    for name in file:
        if name not in known:
            nearest = nearest_name(name, known)
            advice = f"did you mean {nearest}?" if nearest else "other programs read the environment only"
            yield f".env: {name} is no setting and has no effect; {advice}"


def nearest_name(name: str, known: Collection[str]) -> str | None:
    """The setting that somebody meant who wrote `name`; None: no setting is near."""
    if name in _OTHERS:
        return _OTHERS[name]
    by_letters = {_letters(one): one for one in reversed(list(known))}
    written = _letters(name)
    for prefix in ("", *_PREFIXES):
        if written.startswith(prefix) and (same := by_letters.get(written.removeprefix(prefix))):
            return same
    if len(written) < _SHORTEST:
        return None
    near = get_close_matches(written, by_letters, n=1, cutoff=_NEAR)
    return by_letters[near[0]] if near else None


def _letters(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())
