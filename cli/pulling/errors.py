"""Errors of a pull: each is one sentence, and the target directory is untouched."""

from __future__ import annotations

from siglip_edge.runtime.errors import SiglipEdgeError


class PullError(SiglipEdgeError):
    """The source, or the place for the model directory, cannot be used as it is."""


class ConnectionBroken(PullError):
    """The source does not answer, or stopped within a file: another attempt may continue it."""


def first_line(error: BaseException) -> str:
    """What a library says about an error, without its advice on further lines."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def is_of_disk(error: BaseException) -> bool:
    """Whether the disk, and no connection, is the reason. HTTP libraries raise OSErrors without a number."""
    is_connection = isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, OSError) and isinstance(error.errno, int) and not is_connection
