"""The contract of a family of checkpoints: five questions, and nothing else in the exporter knows an architecture.

A family is a module or a folder beside this file that defines `FAMILY`. `exporter.families` finds it there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import MatryoshkaSpec, Scoring, Tower, Towers
from siglip_edge.runtime.rows import Arrays

Floats = NDArray[np.float32]

TO_BE_WRITTEN = FileRecord(path="tokenizer.json", size=0, sha256="")
"""For a text tower's `tokenizer`: the exporter writes the file and fills the record in."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint: weights in float32 on the CPU."""

    source: str
    """A hub id or a local directory."""
    model: Any
    """A torch module in eval mode."""

    def weights_sha256(self) -> str:
        """Digest of every tensor by name: the same weights in other files are the same space."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How inputs become rows, and how cosines become scores."""

    dimensions: int
    towers: Towers
    """Without artifacts; a text tower's tokenizer is TO_BE_WRITTEN. One tower is a whole model."""
    tokenizer_json: str | None
    """Serialization of the `tokenizers` library, which adds prefix and suffix, no padding, no truncation; of a text
    tower."""
    scoring: Scoring
    zero_shot_template: str = "{}"
    """The sentence around a label in the family's own zero-shot evaluation; `{}` is the label."""
    shortening: MatryoshkaSpec | None = None
    """None: the exporter learns a rotation."""


Opened = TypeVar("Opened", bound=Checkpoint)


class Family(ABC, Generic[Opened]):
    """`name` is recorded in the manifest."""

    name: ClassVar[str]
    refusals: ClassVar[Mapping[str, str]] = {}
    """Model type of a relative -> why this family cannot export it; said when no family knows the checkpoint."""

    @abstractmethod
    def knows(self, config: Mapping[str, Any]) -> bool:
        """Whether a checkpoint with this config.json is of the family."""

    @abstractmethod
    def open(self, source: str) -> Opened:
        """A hub id or a local directory, loaded. Raises ExportError that names what is missing."""

    @abstractmethod
    def contract(self, checkpoint: Opened) -> Contract:
        """The contract that the checkpoint was trained with."""

    @abstractmethod
    def trace(self, checkpoint: Opened, tower: Tower, path: Path) -> Floats | None:
        """Write one tower as an FP32 graph: the inputs that its contract names, batch axis dynamic, to `pooled`.

        `pooled` is float32 (n, dimensions).

        -> the token embedding table, (vocabulary, width), where the graph takes `token_embeddings`; else None.
        """

    @abstractmethod
    def reference(self, checkpoint: Opened, tower: Tower, batch: Arrays) -> Floats:
        """The original implementation's pooled outputs, (n, dimensions), for rows as serving makes them."""
