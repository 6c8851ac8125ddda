"""Text of an environment variable -> value. Every parser raises UnreadableValue, which names the allowed values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?|openvino(:[A-Za-z0-9_.,:]+)?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#]+", re.IGNORECASE)
_HOST = re.compile(r"(\[[\da-f:.%]+\]|[^\s:/\[\]@]+)(:\d{1,5})?")
_SIZE = re.compile(r"(\d+)\s*([kmg]?)(i?b)?", re.IGNORECASE)
_UNIT = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class UnreadableValue(ValueError):
    """`allowed` completes the sentence "allowed: …"."""

    def __init__(self, allowed: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed


def boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise UnreadableValue("true or false")
    return text.lower() in _TRUE


def integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or not least <= int(text) <= most:
            raise UnreadableValue(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise UnreadableValue(f"a number from {least:g} to {most:g}")
        return value

    return parse


def size(text: str) -> int:
    """Bytes or pixels: 5000, 512k, 64M, 1g, 20MiB; a unit is a power of 1024."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UnreadableValue("a whole number, also with k, M or G")
    return int(match[1]) * _UNIT[match[2].lower()]


def choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise UnreadableValue(", ".join(words))
        return text.lower()

    return parse


def host(text: str) -> str:
    """A name or an address; an IPv6 address may stand in brackets, as in a URL."""
    return text.removeprefix("[").removesuffix("]")


def choices(*words: str) -> Callable[[str], tuple[str, ...]]:
    """Several of the words, comma-separated."""

    def parse(text: str) -> tuple[str, ...]:
        given = names(text.lower())
        if not given or not set(given) <= set(words):
            raise UnreadableValue(f"some of {', '.join(words)}, comma-separated")
        return given

    return parse


def device(text: str) -> str:
    if text.partition(":")[0] == "mps":
        raise UnreadableValue("auto or cpu on a Mac, whose GPU onnxruntime does not use here")
    if not _DEVICE.fullmatch(text):
        raise UnreadableValue("auto, cpu, cuda, cuda:N, openvino or openvino:GPU")
    return text


def or_auto(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """As `parse`, and the word auto."""
    return lambda text: text.lower() if text.lower() == "auto" else parse(text)


def path(text: str) -> Path:
    """A path; ~ is the home directory of this user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UnreadableValue("a path without ~, because this user has no home directory") from None


def template(text: str) -> str:
    """A sentence around a text."""
    if "{}" not in text:
        raise UnreadableValue("a sentence with {} in place of the text, as in 'This is a photo of {}.'")
    return text


def aliases(text: str) -> tuple[tuple[str, str], ...]:
    """`alias=model,alias=model`."""
    pairs = tuple((alias.strip(), model.strip()) for alias, _, model in (part.partition("=") for part in names(text)))
    if not all(alias and model for alias, model in pairs) or len(dict(pairs)) < len(pairs):
        raise UnreadableValue("alias=model, comma-separated, no alias twice")
    return pairs


def model_name(directory: Path) -> str:
    """The last part of the path; of `.` and `..`, the directory's own name; in a hub's cache, the repository's name."""
    if directory.parent.name == "snapshots" and (repository := directory.parent.parent.name).startswith("models--"):
        return repository.rpartition("--")[2]
    return directory.name if directory.name not in {"", ".."} else directory.resolve().name or "model"


def names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def origins(text: str) -> tuple[str, ...]:
    """Origins as browsers send them, or `*`."""
    listed = names(text)
    if not all(name in {"*", "null"} or _ORIGIN.fullmatch(name) for name in listed):
        raise UnreadableValue("scheme://host or scheme://host:port, comma-separated, without a path; or *")
    return listed


def hosts(text: str) -> tuple[str, ...]:
    """Host names and addresses in lower case, each alone or with a port; `*` stands for every other host."""
    listed = tuple(name.lower() for name in names(text))
    if not all(name == "*" or _HOST.fullmatch(name) for name in listed):
        raise UnreadableValue("host or host:port, comma-separated, an IPv6 address in brackets; * for public hosts")
    return listed


def named_paths(text: str) -> tuple[tuple[str, Path], ...]:
    """`name=path,path`: a path without a name is called after its last part."""
    pairs = []
    for part in names(text):
        name, separator, given = part.rpartition("=") if "=" not in part else part.partition("=")
        directory = path(given.strip())
        pairs.append((name.strip() if separator else model_name(directory), directory))
    counts = Counter(name for name, _ in pairs)
    twice = [f"; {name} is there {count} times" for name, count in counts.items() if name and count > 1]
    if twice or not all(counts):
        raise UnreadableValue(f"name=path, comma-separated, no name twice{''.join(twice)}")
    return tuple(pairs)
