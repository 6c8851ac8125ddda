"""The settings of the operator: one table of environment variables, read once into a frozen `Settings`.

Names of the predecessor projects stay valid. Below the composition root, modules receive plain values.
"""

# ruff: noqa: RUF009 - `variable` is dataclasses.field, which the rule knows

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from platformdirs import user_cache_path

from siglip_edge.server.config import parsing
from siglip_edge.server.config.parsing import UnreadableValue

FACES = ("openai", "native", "llamacpp")
"""Names of the faces in `server/faces/table.py`, repeated because the parent process does not import that table."""


class SettingsInvalid(ValueError):
    """A variable has an invalid value. `str(error)` names the variable, the value and the allowed values."""


def variable(
    names: str, meaning: str, parse: Callable[[str], Any], *, default: Any, secret: bool = False
) -> Any:  # what `dataclasses.field` itself returns to type checkers
    """One row of the table. `names`: the variable, then its aliases. The first name that is set counts."""
    return field(default=default, metadata={"names": names.split(), "parse": parse, "help": meaning, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table of variables. A default of None: computed from the machine or the model where it is used."""

    model: Path = variable(
        "MODEL SIGLIP_MODEL",
        "model directory, or the name of a directory in MODELS_DIR",
        Path,
        default=Path("quantized_models/emoji-siglip"),
    )
    models: tuple[tuple[str, Path], ...] = variable(
        "MODELS", "several models: name=path,name=path; the first is the default model", parsing.named_paths, default=()
    )
    models_dir: Path = variable(
        "MODELS_DIR", "directory in which a model's name is looked up", Path, default=Path("quantized_models")
    )
    device: str = variable("DEVICE", "auto, cpu, cuda[:n] or openvino[:GPU]", parsing.device, default="auto")
    precision: str = variable(
        "PRECISION",
        "auto, int8, int4, fp16 or fp32",
        parsing.choice("auto", "int8", "int4", "fp16", "fp32"),
        default="auto",
    )
    towers: str = variable(
        "TOWERS",
        "text, vision or both: the towers that are served",
        parsing.choice("text", "vision", "both"),
        default="both",
    )
    load_towers: str = variable(
        "LOAD_TOWERS",
        "start or first-use: when a tower is loaded; it is tested before it answers in both cases",
        parsing.choice("start", "first-use"),
        default="start",
    )
    idle_unload_s: float = variable(
        "IDLE_UNLOAD_S",
        "seconds without requests until a tower is unloaded; the next request loads it again (0 disables it)",
        parsing.number(0, 604_800),
        default=0.0,
    )
    prepare: bool = variable(
        "PREPARE",
        "pack each graph for this CPU at the first start; workers then share the weights",
        parsing.boolean,
        default=True,
    )
    cache_dir: Path | None = variable(
        "CACHE_DIR",
        "directory for packed graphs and tunings; not set: the user's cache directory",
        Path,
        default=None,
    )

    host: str = variable(
        "HOST", "address to listen on; 0.0.0.0 or :: for every interface", parsing.host, default="127.0.0.1"
    )
    port: int = variable("PORT", "port to listen on", parsing.integer(0, 65535), default=8000)
    workers: int | None = variable(
        "WORKERS", "number of server processes; each loads its own model", parsing.integer(1, 256), default=None
    )
    auto_scale_workers: bool = variable(
        "AUTO_SCALE_WORKERS",
        "choose WORKERS from the cores and the memory, instead of 1",
        parsing.boolean,
        default=False,
    )
    cpu_utilization_factor: float = variable(
        "CPU_UTILIZATION_FACTOR", "share of the cores to use", parsing.number(0.05, 1.0), default=1.0
    )
    threads: int = variable(
        "THREADS", "requests that one worker holds at the same time", parsing.integer(4, 1024), default=96
    )
    request_timeout_s: float = variable(
        "REQUEST_TIMEOUT", "seconds per request; after them the answer is 504", parsing.number(0.1, 3600), default=60.0
    )

    batch_size: int = variable(
        "BATCH_SIZE BATCH_WINDOW_MAX_SIZE",
        "upper bound of the rows in one run of a tower; the plan often stays below it (batch_size in /health)",
        parsing.integer(1, 1024),
        default=32,
    )
    batch_wait_time_ms: float = variable(
        "BATCH_WAIT_TIME_MS BATCH_WINDOW_MS",
        "milliseconds that a batch waits for more rows",
        parsing.number(0, 1000),
        default=0.0,
    )
    max_concurrent_batches: int | None = variable(
        "MAX_CONCURRENT_BATCHES",
        "runs at the same time, both towers together; not set: chosen from the cores",
        parsing.integer(1, 64),
        default=None,
    )
    max_queue_size: int = variable(
        "MAX_QUEUE_SIZE",
        "rows that may wait per tower; above it the answer is 429",
        parsing.integer(1, 100_000),
        default=512,
    )
    queue_overflow_action: str = variable(
        "QUEUE_OVERFLOW_ACTION",
        "when the queue is full: reject (429) or wait",
        parsing.choice("reject", "wait"),
        default="reject",
    )
    embedding_cache_bytes: int = variable(
        "EMBEDDING_CACHE_SIZE",
        "size of the embedding cache in bytes, per model and worker (0 disables it)",
        parsing.size,
        default=16 << 20,
    )

    max_batch_size: int = variable("MAX_BATCH_SIZE", "inputs per request", parsing.integer(1, 100_000), default=256)
    max_text_chars: int = variable(
        "MAX_TEXT_CHARS", "characters per text", parsing.integer(1, 10_000_000), default=32_768
    )
    max_body_bytes: int = variable("MAX_BODY_BYTES", "bytes per request body", parsing.size, default=64 << 20)
    max_image_bytes: int = variable("MAX_IMAGE_BYTES", "bytes per image file", parsing.size, default=20 << 20)
    max_image_pixels: int = variable("MAX_IMAGE_PIXELS", "pixels per image", parsing.size, default=50_000_000)
    accept_token_ids: bool = variable(
        "ACCEPT_TOKEN_IDS",
        "accept arrays of token ids; they must be ids of this model's own tokenizer",
        parsing.boolean,
        default=False,
    )

    faces: tuple[str, ...] = variable(
        "FACES",
        "APIs that are served, comma-separated; health, metrics and the documentation always are",
        parsing.choices(*FACES),
        default=FACES,
    )

    allow_image_urls: bool = variable(
        "ALLOW_IMAGE_URLS", "fetch images from http and https URLs", parsing.boolean, default=False
    )
    image_url_hosts: tuple[str, ...] = variable(
        "IMAGE_URL_HOSTS",
        "hosts from which images are fetched; empty: every host with a public address",
        parsing.names,
        default=(),
    )
    image_root: Path | None = variable(
        "IMAGE_ROOT", "directory from which image file paths are accepted; not set: no file paths", Path, default=None
    )

    api_keys: tuple[str, ...] = variable(
        "API_KEYS", "API keys, comma-separated; not set: no key is needed", parsing.names, default=(), secret=True
    )
    api_keys_file: Path | None = variable("API_KEYS_FILE", "file with one API key per line", Path, default=None)
    protect_metrics: bool = variable(
        "PROTECT_METRICS", "require an API key for /metrics too", parsing.boolean, default=False
    )
    cors_allow_origins: tuple[str, ...] = variable(
        "CORS_ALLOW_ORIGINS",
        "origins that browsers may call from, comma-separated; empty: none",
        parsing.names,
        default=(),
    )

    enable_metrics: bool = variable("ENABLE_METRICS", "serve /metrics", parsing.boolean, default=True)
    enable_warmup: bool = variable(
        "ENABLE_WARMUP", "run both towers once before the server is ready", parsing.boolean, default=True
    )
    warmup_steps: int = variable("WARMUP_STEPS", "warm-up runs per tower", parsing.integer(1, 100), default=1)
    warmup_batch_size: int = variable("WARMUP_BATCH_SIZE", "rows per warm-up run", parsing.integer(1, 1024), default=1)
    log_format: str = variable("LOG_FORMAT", "text or json", parsing.choice("text", "json"), default="text")
    log_level: str = variable(
        "LOG_LEVEL",
        "debug, info, warning or error",
        parsing.choice("debug", "info", "warning", "error"),
        default="info",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the table from a mapping. An empty value counts as not set. Raises SettingsInvalid."""
        given = {row.name: _read(row, environ) for row in fields(cls) if _name_in_force(row, environ)}
        settings = cls(**given)
        settings._check()
        return settings

    def _check(self) -> None:
        # With fewer requests than rows per batch, requests of one row could never fill a batch.
        if self.threads < self.batch_size:
            message = f"THREADS={self.threads} is less than BATCH_SIZE={self.batch_size}; allowed: at least as many"
            raise SettingsInvalid(message)
        if self.max_queue_size < self.max_batch_size:
            raise SettingsInvalid(
                f"MAX_QUEUE_SIZE={self.max_queue_size} is less than MAX_BATCH_SIZE={self.max_batch_size}; "
                "allowed: at least as many, or the largest request could never be admitted"
            )
        if self.precision == "fp16" and self.device == "cpu":
            message = (
                "PRECISION=fp16 with DEVICE=cpu computes in fp32 with more memory; allowed there: int8, int4, fp32"
            )
            raise SettingsInvalid(message)

    @property
    def keys(self) -> tuple[str, ...]:
        """API_KEYS and the lines of API_KEYS_FILE. Raises SettingsInvalid when the file cannot be read or is empty."""
        if self.api_keys_file is None:
            return self.api_keys
        try:
            lines = [line.strip() for line in self.api_keys_file.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise SettingsInvalid(f"API_KEYS_FILE={self.api_keys_file}: {error.strerror}; allowed: a file") from None
        if not lines:  # an empty file must not open the server to everybody
            raise SettingsInvalid(f"API_KEYS_FILE={self.api_keys_file} is empty; allowed: a file with one key per line")
        return (*self.api_keys, *lines)

    @property
    def model_cache(self) -> Path | None:
        """Directory that keeps packed graphs and tunings between starts. None: PREPARE is off, nothing is kept."""
        return (self.cache_dir or user_cache_path("siglip-edge")) if self.prepare else None

    @property
    def named_models(self) -> dict[str, Path]:
        """Name of each served model -> its directory; the default model first."""
        listed = self.models or ((self.model.name, self.model),)
        return {name: self._directory(path) for name, path in listed}

    def _directory(self, path: Path) -> Path:
        below = self.models_dir / path
        return below if not path.exists() and len(path.parts) == 1 and below.exists() else path


def read_environment() -> dict[str, str]:
    """The environment of this process, and the variables of `.env` in the working directory that it does not set."""
    if not Path(".env").exists():  # it may be a pipe
        return dict(os.environ)
    return {**{name: value or "" for name, value in dotenv_values(".env").items()}, **os.environ}


@dataclass(frozen=True)
class Row:
    """One variable, as a line for people."""

    names: tuple[str, ...]
    value: str
    """The value in force."""
    default: str
    meaning: str


def table(settings: Settings) -> list[Row]:
    """The table of variables with the values in force. Of a secret, only the number of values is shown."""
    return [
        Row(
            names=tuple(row.metadata["names"]),
            value=_shown(getattr(settings, row.name), secret=row.metadata["secret"]),
            default=_shown(row.default, secret=False),
            meaning=row.metadata["help"],
        )
        for row in fields(settings)
    ]


def _shown(value: Any, *, secret: bool) -> str:
    if secret and value:
        return f"({len(value)} set)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join("=".join(map(str, item)) if isinstance(item, tuple) else item for item in value)
    return "" if value is None or value is MISSING else str(value)


def _name_in_force(row: Field[Any], environ: Mapping[str, str]) -> str | None:
    return next((name for name in row.metadata["names"] if environ.get(name, "").strip()), None)


def _read(row: Field[Any], environ: Mapping[str, str]) -> Any:
    name = _name_in_force(row, environ)
    assert name is not None
    try:
        return row.metadata["parse"](environ[name].strip())
    except UnreadableValue as error:
        shown = "(hidden)" if row.metadata["secret"] else repr(environ[name])
        raise SettingsInvalid(f"{name}={shown} cannot be read; allowed: {error.allowed}") from None
