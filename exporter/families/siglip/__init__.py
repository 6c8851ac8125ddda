"""SigLIP and SigLIP2 checkpoints of fixed resolution."""

from siglip_edge.exporter.families.siglip.family import Siglip

FAMILY = Siglip()
