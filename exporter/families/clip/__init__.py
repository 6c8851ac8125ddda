"""CLIP checkpoints of transformers: OpenAI's, LAION's in Hugging Face form, MetaCLIP's."""

from siglip_edge.exporter.families.clip.family import Clip

FAMILY = Clip()
