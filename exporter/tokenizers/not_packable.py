"""The error of every part of packing."""

from __future__ import annotations

from siglip_edge.exporter.errors import ExportError


class NotPackable(ExportError):
    """The tokenizer does something that the packed form cannot; it is served from tokenizer.json."""
