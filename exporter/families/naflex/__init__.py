"""NaFlex checkpoints of SigLIP2: patches of any aspect ratio."""

from siglip_edge.exporter.families.naflex.family import Naflex

FAMILY = Naflex()
