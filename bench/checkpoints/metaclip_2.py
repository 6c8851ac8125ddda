"""MetaCLIP 2: CLIP's towers with an XLM-V tokenizer, with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sentencepiece
import torch
from transformers import MetaClip2Config, MetaClip2Model, XLMRobertaTokenizerFast

from siglip_edge.bench.checkpoints.clip import ClipSize, image_processor


def write_metaclip_2(directory: Path, size: ClipSize, lines: Iterable[str], seed: int = 0) -> None:
    """Write a directory that `transformers` loads. `lines`: text that the tokenizer is trained on."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = train_unigram(directory, size.vocabulary, lines)
    tokenizer.save_pretrained(directory)
    image_processor(size).save_pretrained(directory)
    text = size.text.config(
        vocab_size=len(tokenizer),
        max_position_embeddings=size.length,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = size.vision.config(image_size=size.image, patch_size=size.patch, hidden_act="quick_gelu")
    torch.manual_seed(seed)
    config = MetaClip2Config(text_config=text, vision_config=vision, projection_dim=size.dimensions)
    model = MetaClip2Model(config)
    model.logit_scale.data.fill_(4.6052)
    model.save_pretrained(directory)


def train_unigram(directory: Path, vocabulary: int, lines: Iterable[str]) -> XLMRobertaTokenizerFast:
    """-> a SentencePiece unigram tokenizer in XLM-R's format."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(directory / "sentencepiece.bpe"),
        vocab_size=vocabulary - 2,  # XLM-R adds <pad> and <mask>
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return XLMRobertaTokenizerFast(str(directory / "sentencepiece.bpe.model"))
