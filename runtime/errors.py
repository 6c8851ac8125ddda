"""Every error of the project, as one tree. Only `server/http/errors.py` knows the HTTP status of each.

SiglipEdgeError
├── InvalidInput              the caller's input is wrong; `param` names the field
│   ├── UndecodableImage        the bytes are no image, a truncated image, or of a format that is not accepted
│   ├── ImageTooLarge           the image has more bytes or pixels than the operator allows
│   ├── UnsupportedInput        the model's contract or the operator's settings do not allow this input
│   └── SpaceMismatch           the caller expects vectors of another embedding space
├── ModelError                a model directory cannot be served; the message names the remedy
│   ├── ManifestInvalid         manifest.json is missing, unreadable or contradicts itself
│   ├── ArtifactMissing         the model has no artifact of that tower and precision
│   ├── ArtifactCorrupt         a file is unreadable, or its size or checksum differs from the manifest's
│   └── SelfTestFailed          the model gives wrong embeddings on this machine
│       ├── BatchChangesBits      the embeddings are right, but a row has other bits in a batch than alone
│       └── WrongKernels          onnxruntime multiplies integers wrongly on this CPU
├── ProviderUnavailable       an execution provider that the operator named is not available
└── Unavailable               the server cannot answer now; `retry_after_s` says when to ask again
    ├── Overloaded              the queue is full
    ├── NotReady                a tower is loading, or the server is draining or stalled
    └── DeadlineExceeded        the request's deadline has passed; its remaining work was dropped
"""

from __future__ import annotations


class SiglipEdgeError(Exception):
    """Root of the tree. `str(error)` is one sentence that an operator understands."""


class InvalidInput(SiglipEdgeError):
    """The caller's input is wrong. `param` names the field, as in `input[3]`; `code` is a stable word for programs."""

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


class WrongKernels(SelfTestFailed):
    pass


class ProviderUnavailable(SiglipEdgeError):
    pass


class Unavailable(SiglipEdgeError):
    """The server cannot answer now. `retry_after_s`: seconds, computed from the service rate when it was measured.

    `code` is a stable word for programs.
    """

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    code = "overloaded"


class NotReady(Unavailable):
    code = "not_ready"


class DeadlineExceeded(Unavailable):
    code = "deadline_exceeded"
