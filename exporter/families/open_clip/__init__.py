"""Checkpoints in OpenCLIP's own format that have CLIP's vision tower, and a causal or an XLM-R text tower."""

from siglip_edge.exporter.families.open_clip.family import OpenClip

FAMILY = OpenClip()
"""OpenCLIP's own format."""
