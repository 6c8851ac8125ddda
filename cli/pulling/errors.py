"""Errors of a pull: each is one sentence, and the target directory is untouched."""

from __future__ import annotations

from collections.abc import Iterator

from siglip_edge.runtime.errors import SiglipEdgeError


class PullError(SiglipEdgeError):
    """The source, or the place for the model directory, cannot be used as it is."""


class ConnectionBroken(PullError):
    """The source does not answer, or stopped within a file: another attempt may continue it."""


def reason_of(error: BaseException) -> str:
    """Why a request got no answer, without a library's advice on further lines."""
    if is_refused(error):
        is_proxy = any("Proxy" in type(cause).__name__ for cause in _causes(error))
        return "connection refused by the proxy" if is_proxy else "connection refused"
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def is_of_disk(error: BaseException) -> bool:
    """Whether the disk, and no connection, is the reason. HTTP libraries raise OSErrors without a number."""
    is_connection = isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, OSError) and isinstance(error.errno, int) and not is_connection


def is_refused(error: BaseException) -> bool:
    """Whether nobody listens at the address."""
    return any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it: libraries wrap the system's error several times."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
