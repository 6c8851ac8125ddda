"""Errors of an export: each is one sentence, and the target directory is untouched."""

from __future__ import annotations

from siglip_edge.runtime.errors import SiglipEdgeError


class ExportError(SiglipEdgeError):
    """The checkpoint, the calibration inputs or the target cannot be used as they are."""


class FidelityError(ExportError):
    """An artifact does not agree with FP32; it is never written."""
