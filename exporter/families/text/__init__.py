"""Text encoders: sentence-transformers directories of BERT's relatives, ModernBERT, Gemma 3 and Qwen 3."""

from siglip_edge.exporter.families.text.family import TextEncoder

FAMILY = TextEncoder()
