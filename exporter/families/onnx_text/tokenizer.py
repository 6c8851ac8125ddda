"""tokenizer.json, read without transformers, where transformers would not change it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.text.checkpoint import check_cut
from siglip_edge.exporter.families.text.layout import read_json

_OVERRIDES = {
    "do_lower_case": ("normalizer", "lowercase"),
    "strip_accents": ("normalizer", "strip_accents"),
    "tokenize_chinese_chars": ("normalizer", "handle_chinese_chars"),
    "add_prefix_space": ("pre_tokenizer", "add_prefix_space"),
}
"""Field of tokenizer_config.json that transformers puts over one of tokenizer.json."""


@dataclass(frozen=True, kw_only=True)
class Tokenization:
    """What a checkpoint's tokenizer files say."""

    serialized: str
    """Of the `tokenizers` library, without padding and truncation."""
    pad_id: int | None
    takes: int
    """Most tokens per text."""
    highest: int
    """The highest id."""


def open_tokenizer(source: str, directory: Path) -> Tokenization:
    """Raises ExportError when a file is missing, or two files disagree."""
    from tokenizers import Tokenizer

    described = read_json(str(directory), "tokenizer.json")
    config = read_json(str(directory), "tokenizer_config.json")
    if described is None or config is None:
        missing = "tokenizer.json" if described is None else "tokenizer_config.json"
        raise ExportError(f"{source}: no {missing}; other tokenizers need pip install 'siglip-edge[export]'")
    _check_agreement(source, described, config)
    check_cut(source, config.get("truncation_side", "right"))
    try:
        backend = Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # tokenizers raises bare Exception
        raise ExportError(f"{source}: tokenizer.json cannot be read ({error})") from error
    backend.no_padding()
    backend.no_truncation()
    padding = config.get("pad_token")
    name = padding["content"] if isinstance(padding, Mapping) else padding
    return Tokenization(
        serialized=backend.to_str(),
        pad_id=None if name is None else backend.token_to_id(name),
        takes=config.get("model_max_length") or 1 << 60,
        highest=max(backend.get_vocab(with_added_tokens=True).values()),
    )


def _check_agreement(source: str, described: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    for name, (part, field) in _OVERRIDES.items():
        own = (described.get(part) or {}).get(field, config.get(name))
        if name in config and own != config[name]:
            raise ExportError(
                f"{source}: tokenizer_config.json has {name} = {config[name]}, tokenizer.json {own}; transformers "
                "uses the former: save the tokenizer with transformers, so that both files agree"
            )
