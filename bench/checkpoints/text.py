"""Text encoders in sentence-transformers' files, with random weights in the shapes of released models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from siglip_edge.bench.checkpoints.gemma_tokenizer import SPECIAL, train_tokenizer
from siglip_edge.bench.checkpoints.metaclip_2 import train_unigram

QUERY, DOCUMENT = "task: search result | query: ", "title: none | text: "
INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A released model's shape, and its tiny relative."""

    architecture: str
    """Prefix of the classes in transformers."""
    tokenizer: str
    pooling: str
    longest: int
    config: Mapping[str, Any]
    tiny: Mapping[str, Any]
    """What differs from `config` in the tiny one."""
    dense: tuple[int, ...] = ()
    """Widths behind the pooling."""
    prompts: Mapping[str, str] = field(default_factory=dict)


_TINY_BERT = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_TINY = _TINY_BERT | {"vocab_size": 1_000}


def _bert(width: int, layers: int, heads: int, vocabulary: int, positions: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
    }


SHAPES: dict[str, TextShape] = {
    "minilm": TextShape(
        architecture="Bert",
        tokenizer="wordpiece",
        pooling="mean",
        longest=256,
        config=_bert(384, 6, 12, 30_522, 512),
        tiny=_TINY,
    ),
    "mpnet": TextShape(
        architecture="MPNet",
        tokenizer="mpnet",
        pooling="mean",
        longest=384,
        config=_bert(768, 12, 12, 30_527, 514),
        tiny=_TINY,
    ),
    "bge-m3": TextShape(
        architecture="XLMRoberta",
        tokenizer="unigram",
        pooling="cls",
        longest=8192,
        config=_bert(1024, 24, 16, 250_002, 8194) | {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
        tiny=_TINY,
    ),
    "modernbert": TextShape(
        architecture="ModernBert",
        tokenizer="byte-level",
        pooling="cls",
        longest=8192,
        config=_bert(768, 22, 12, 50_368, 8192) | {"intermediate_size": 1152},
        tiny=_TINY | {"num_hidden_layers": 3, "local_attention": 32},
    ),
    "embeddinggemma": TextShape(
        architecture="Gemma3Text",
        tokenizer="gemma",
        pooling="mean",
        longest=2048,
        config=_bert(768, 24, 3, 262_144, 2048)
        | {"intermediate_size": 1152, "head_dim": 256, "num_key_value_heads": 1, "sliding_window": 512}
        | {"use_bidirectional_attention": True, "query_pre_attn_scalar": 256},
        tiny=_TINY
        | {"num_hidden_layers": 3, "_sliding_window_pattern": 2, "head_dim": 16, "sliding_window": 32}
        | {"query_pre_attn_scalar": 16},
        dense=(3072, 768),
        prompts={"query": QUERY, "document": DOCUMENT},
    ),
    "qwen3": TextShape(
        architecture="Qwen3",
        tokenizer="byte-level",
        pooling="lasttoken",
        longest=8192,
        config=_bert(1024, 28, 16, 151_669, 32_768)
        | {"intermediate_size": 3072, "head_dim": 128, "num_key_value_heads": 8, "rope_theta": 1_000_000},
        tiny=_TINY | {"head_dim": 32, "num_key_value_heads": 2},
        prompts={"query": INSTRUCTION, "document": ""},
    ),
}
"""all-MiniLM-L6-v2, all-mpnet-base-v2, bge-m3, ModernBERT-base, EmbeddingGemma-300m, Qwen3-Embedding-0.6B."""


def write_text(directory: Path, shape: TextShape, lines: Iterable[str], *, tiny: bool = False, seed: int = 0) -> None:
    """Write a directory that sentence-transformers loads. `lines`: text that the tokenizer is trained on."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {**shape.config, **(shape.tiny if tiny else {})}
    tokenizer = _TOKENIZERS[shape.tokenizer](directory, config["vocab_size"], lines)
    tokenizer.model_max_length = shape.longest
    tokenizer.save_pretrained(directory)
    config["vocab_size"] = max(config["vocab_size"], len(tokenizer))
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    of_bert = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    known = {name: index for name, index in (ids | of_bert).items() if index is not None}
    torch.manual_seed(seed)
    configuration = getattr(transformers, f"{shape.architecture}Config")(**config | known)
    model: PreTrainedModel = getattr(transformers, f"{shape.architecture}Model")(configuration)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.02)  # the end token too, which some pad with
    model.save_pretrained(directory)
    _write_modules(directory, shape, int(config["hidden_size"]), tiny=tiny)


def _write_modules(directory: Path, shape: TextShape, width: int, *, tiny: bool) -> None:
    """sentence-transformers' own files, as its versions 2 to 5 write them."""
    widths = [width, *(outputs * width // 768 if tiny else outputs for outputs in shape.dense)]
    names = ["Transformer", "Pooling", *("Dense" for _ in shape.dense), "Normalize"]
    folders = ["", *(f"{index}_{name}" for index, name in enumerate(names) if index)]
    modules = [
        {"idx": index, "name": str(index), "path": folder, "type": f"sentence_transformers.models.{name}"}
        for index, (name, folder) in enumerate(zip(names, folders, strict=True))
    ]
    _write_json(directory / "modules.json", modules)
    _write_json(directory / "sentence_bert_config.json", {"max_seq_length": shape.longest, "do_lower_case": False})
    described = {"prompts": dict(shape.prompts), "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(directory / "config_sentence_transformers.json", described)
    modes = {"cls": "cls_token", "mean": "mean_tokens", "lasttoken": "lasttoken"}
    flags = {f"pooling_mode_{flag}": mode == shape.pooling for mode, flag in modes.items()}
    _write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags})
    for folder, inputs, outputs in zip(folders[2:-1], widths, widths[1:], strict=False):
        _write_dense(directory / folder, inputs, outputs)


def _write_dense(folder: Path, inputs: int, outputs: int) -> None:
    from safetensors.torch import save_file

    layer = nn.Linear(inputs, outputs, bias=False)
    activation = "torch.nn.modules.linear.Identity"
    config = {"in_features": inputs, "out_features": outputs, "bias": False, "activation_function": activation}
    _write_json(folder / "config.json", config)
    save_file({"linear.weight": layer.weight.detach()}, folder / "model.safetensors")


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _wordpiece(
    _: Path, vocabulary: int, lines: Iterable[str], names: str = "[PAD] [UNK] [CLS] [SEP] [MASK]"
) -> PreTrainedTokenizerFast:
    """BERT's. `names`: of its special tokens, which have the first ids."""
    special = names.split()
    begin, end, pad = special[2], special[3], next(name for name in special if "pad" in name.lower())
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(token, special.index(token)) for token in (begin, end)]
    )
    ends = {"cls_token": begin, "sep_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, unk_token="[UNK]", **ends)


def _mpnet(folder: Path, vocabulary: int, lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """BERT's with RoBERTa's special tokens: padding has id 1."""
    return _wordpiece(folder, vocabulary, lines, "[UNK] <pad> <s> </s> <mask>")


def _byte_level(_: Path, vocabulary: int, lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """ModernBERT's and Qwen's kind; the end token is the suffix, as in Qwen3-Embedding."""
    end = "<|endoftext|>"
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 0)])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=end, eos_token=end)


def _gemma(_: Path, vocabulary: int, __: Iterable[str]) -> PreTrainedTokenizerFast:
    pad, end, begin, unknown = SPECIAL
    tokenizer = train_tokenizer(vocabulary, seed=0)
    names = {"pad_token": pad, "eos_token": end, "bos_token": begin, "unk_token": unknown}
    options = {"add_bos_token": True, "add_eos_token": True}
    return transformers.GemmaTokenizerFast(tokenizer_object=tokenizer, **names, **options)


_TOKENIZERS: Mapping[str, Callable[[Path, int, Iterable[str]], PreTrainedTokenizerFast]] = {
    "wordpiece": _wordpiece,
    "mpnet": _mpnet,
    "unigram": train_unigram,
    "byte-level": _byte_level,
    "gemma": _gemma,
}
