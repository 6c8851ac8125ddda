"""The files by which sentence-transformers describes a model around its transformer, read without loading it.

`modules.json` lists the modules in order; every module has a folder with a configuration. What is not understood
exactly is refused in words.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from siglip_edge.exporter.errors import ExportError

logger = logging.getLogger("siglip_edge")


class Pooling(StrEnum):
    """Which hidden rows become the embedding."""

    FIRST = "cls"
    MEAN = "mean"
    LAST = "lasttoken"


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A linear layer on the pooled row, and its activation."""

    folder: str
    inputs: int
    outputs: int
    has_bias: bool
    activation: str
    """Name of a class in torch.nn."""


@dataclass(frozen=True)
class Normalize:
    """The row is scaled to length one."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model of sentence-transformers, but for the weights."""

    pooling: Pooling
    after: Sequence[Dense | Normalize] = ()
    """What follows the pooling, in order."""
    longest: int | None = None
    """Most tokens per text; None: as many as the transformer and its tokenizer take."""
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


_MODE = "pooling_mode"
_SPELT_OUT = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_DENSE = {"in_features", "out_features", "bias", "activation_function"}
_DENSE_DEFAULTS = {
    "use_residual": False,
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
}
"""Fields of sentence-transformers 6 that change nothing at these values."""


def read_layout(source: str) -> Layout:
    """The layout of a hub id or a local directory. Raises ExportError that names what cannot be exported."""
    modules = read_json(source, "modules.json")
    if modules is None:
        logger.info("%s: no modules.json; its tokens' mean is pooled, as sentence-transformers does", source)
        return Layout(pooling=Pooling.MEAN, **_described(source, normalizes=False))
    first, *others = modules
    if _kind(source, first) != "Transformer" or first["path"] != "":
        where = f" in the folder {first['path']!r}" if first["path"] else ""
        raise ExportError(
            f"{source}: its first module is {first['type']}{where}; a Transformer in the root is exported"
        )
    pooling, after = _pooling(source, others), [_after(source, module) for module in others[1:]]
    steps = [step for step in after if step is not None]
    return Layout(
        pooling=pooling, after=steps, **_described(source, normalizes=bool(steps) and isinstance(steps[-1], Normalize))
    )


def read_json(source: str, name: str) -> Any:
    """A JSON file of a checkpoint, or None when it has none of that name."""
    path = file_of(source, name)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{source}: {name} cannot be read as JSON ({error})") from error


def file_of(source: str, name: str) -> Path | None:
    """A file of a hub id or of a local directory; None when it has none of that name."""
    if Path(source).is_dir():
        path = Path(source, name)
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if found is None else Path(found)


def _kind(source: str, module: Mapping[str, str]) -> str:
    package, *_, name = module["type"].split(".")
    if package != "sentence_transformers":
        raise ExportError(f"{source}: its module {module['type']} is code of its own; sentence-transformers' are known")
    return name


def _pooling(source: str, modules: Sequence[Mapping[str, str]]) -> Pooling:
    if not modules or _kind(source, modules[0]) != "Pooling":
        found = modules[0]["type"] if modules else "nothing"
        raise ExportError(f"{source}: {found} follows its Transformer; Pooling is expected")
    config = read_json(source, f"{modules[0]['path']}/config.json") or {}
    if not config.get("include_prompt", True):
        raise ExportError(f"{source}: its pooling leaves the prompt's tokens out (include_prompt false): not exported")
    modes = [mode for flag, mode in _SPELT_OUT.items() if config.get(flag)]
    modes = modes or ([config[_MODE]] if _MODE in config else [Pooling.MEAN])
    if len(modes) > 1 or modes[0] not in set(Pooling):
        known = ", ".join(Pooling)
        raise ExportError(f"{source}: pooling by {' and '.join(modes)} is not exported; one of {known} is")
    return Pooling(modes[0])


def _after(source: str, module: Mapping[str, str]) -> Dense | Normalize | None:
    """A module behind the pooling; None for one that does nothing outside training."""
    kind = _kind(source, module)
    if kind == "Normalize":
        return Normalize()
    if kind == "Dropout":
        return None
    if kind != "Dense":
        raise ExportError(f"{source}: its module {kind} is not exported; Dense and Normalize may follow the pooling")
    folder = module["path"]
    config = read_json(source, f"{folder}/config.json") or {}
    others = {name: value for name, value in config.items() if name not in _DENSE}
    if strange := [name for name, value in others.items() if _DENSE_DEFAULTS.get(name, ...) != value]:
        raise ExportError(f"{source}: {folder}/config.json has {strange[0]} = {others[strange[0]]}: not exported")
    package, *_, activation = config.get("activation_function", "torch.nn.modules.activation.Tanh").split(".")
    if package != "torch":
        raise ExportError(f"{source}: the activation {config['activation_function']} of {folder} is none of torch")
    return Dense(
        folder=folder,
        inputs=config["in_features"],
        outputs=config["out_features"],
        has_bias=config.get("bias", True),
        activation=activation,
    )


def _described(source: str, *, normalizes: bool) -> dict[str, Any]:
    """The fields of Layout that are about texts."""
    if file_of(source, "adapter_config.json"):
        raise ExportError(f"{source}: it is an adapter of another model; merge it into that model's weights first")
    transformer = read_json(source, "sentence_bert_config.json") or {}
    if (task := transformer.get("transformer_task", "feature-extraction")) != "feature-extraction":
        raise ExportError(f"{source}: its transformer is made for {task}, not for embeddings")
    config = read_json(source, "config_sentence_transformers.json") or {}
    _check_kind_of_model(source, config)
    _check_similarity(source, config.get("similarity_fn_name"), normalizes=normalizes)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ExportError(f"{source}: its default_prompt_name {default!r} is none of its prompts")
    return {
        "longest": transformer.get("max_seq_length"),
        "lowercase": bool(transformer.get("do_lower_case")),
        "prompts": {name: text or "" for name, text in prompts.items()},
        "default_prompt": default,
    }


def _check_kind_of_model(source: str, config: Mapping[str, Any]) -> None:
    if (kind := config.get("model_type") or "SentenceTransformer") != "SentenceTransformer":
        raise ExportError(f"{source}: it is a {kind}, which gives no dense vector per text; SentenceTransformer does")


def _check_similarity(source: str, name: str | None, *, normalizes: bool) -> None:
    """Served vectors have length one, and their score is the cosine."""
    if name in {None, "cosine"} or (name == "dot" and normalizes):
        return
    why = "one of vectors that are not normalised" if name == "dot" else "no cosine"
    raise ExportError(f"{source}: it is made for the similarity {name!r}, which is {why}; only cosines are served")
