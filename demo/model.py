"""The demo model's sizes, and the untrained SigLIP built from them."""

from __future__ import annotations

from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

SIDE = 64  # pixels
PATCH = 8  # 64 patches; patch 16 would leave 16, too few to tell thin outlines apart
WIDTH = 192  # of the image tower and of the shared space
TEXT_WIDTH = 128  # projected to WIDTH by the text tower's head; the vocabulary table is most of that tower
TEXT_LENGTH = 24  # tokens: holds "this is a photo of {}." around 99 names in 100, in every language
VOCABULARY = 7000  # pieces
PAD, EOS, BOS, UNK = 0, 1, 2, 3  # Gemma's numbers


def build(vocabulary: int = VOCABULARY) -> SiglipModel:
    """An untrained SiglipModel of about 5.0 million parameters."""
    vision = SiglipVisionConfig(
        image_size=SIDE, patch_size=PATCH, hidden_size=WIDTH, intermediate_size=4 * WIDTH,
        num_hidden_layers=6, num_attention_heads=3,
    )  # fmt: skip
    text = SiglipTextConfig(
        vocab_size=vocabulary, max_position_embeddings=TEXT_LENGTH, hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=4, num_attention_heads=4, projection_size=WIDTH,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip
    return SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
