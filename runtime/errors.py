"""Everything that can go wrong, as one tree. The runtime raises meaning; only `server/errors.py` knows status numbers.

SiglipEdgeError
├── InvalidInput              the caller's input; `param` names the field
│   ├── UndecodableImage        not the image it claims to be, truncated, or of a format that is not accepted
│   ├── ImageTooLarge           more bytes or pixels than the operator allows
│   ├── UnsupportedInput        understood, but refused by contract or by the operator's settings
│   └── SpaceMismatch           the caller expects vectors of another embedding space
├── ModelError                a model directory that cannot be served; the message says what to do
│   ├── ManifestInvalid         manifest.json missing, unreadable or contradicting itself
│   ├── ArtifactMissing         no artifact of that tower and precision
│   ├── ArtifactCorrupt         a file differs from the manifest's size or checksum
│   └── SelfTestFailed          the session answers wrongly on this machine
│       └── BatchChangesBits      rightly, but a row has other bits in a batch than alone
├── ProviderUnavailable       an execution provider asked for by name cannot be had
└── Unavailable               not now: `retry_after_s` says when to ask again
    ├── Overloaded              the queue is full
    ├── NotReady                loading, draining or stalled
    └── DeadlineExceeded        the caller's time is up; the work was dropped
"""

from __future__ import annotations


class SiglipEdgeError(Exception):
    """Root of the tree; `str(error)` is one sentence fit for the operator."""


class InvalidInput(SiglipEdgeError):
    """The caller's input is wrong. `param` is the field, as in `input[3]`; `code` a stable word for programs."""

    code = "invalid_input"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code or type(self).code


class UndecodableImage(InvalidInput):
    code = "image_undecodable"


class ImageTooLarge(InvalidInput):
    code = "image_too_large"


class UnsupportedInput(InvalidInput):
    code = "unsupported_input"


class SpaceMismatch(InvalidInput):
    code = "embedding_space_mismatch"


class ModelError(SiglipEdgeError):
    """A model directory cannot be served."""


class ManifestInvalid(ModelError):
    pass


class ArtifactMissing(ModelError):
    pass


class ArtifactCorrupt(ModelError):
    pass


class SelfTestFailed(ModelError):
    pass


class BatchChangesBits(SelfTestFailed):
    pass


class ProviderUnavailable(SiglipEdgeError):
    pass


class Unavailable(SiglipEdgeError):
    """Not now. `retry_after_s`: seconds, from the measured service rate where there is one."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    pass


class NotReady(Unavailable):
    pass


class DeadlineExceeded(Unavailable):
    pass
