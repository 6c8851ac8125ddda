"""The settings of the operator: one table of variables, read once into a frozen `Settings`.

Names of the predecessor projects stay valid. Below the composition root, modules receive plain values.
"""

# ruff: noqa: RUF009 - `variable` is dataclasses.field, which the rule knows

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path

from siglip_edge.server.config import limits, parsing
from siglip_edge.server.config.listed_models import Catalogue, ListedModel, list_models
from siglip_edge.server.config.text_files import read_text
from siglip_edge.server.config.unknown_names import about_unknown_names
from siglip_edge.server.config.variables import SettingsInvalid, known_names, read, variable, variables

FACES = ("openai", "native", "llamacpp", "similarity")
"""Names of the faces in `server/faces/table.py`, repeated because the parent process does not import that table."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The table of variables. A default of None: computed from the machine or the model where it is used."""

    model: Path = variable(
        "MODEL SIGLIP_MODEL",
        "model directory, or the name of a directory in MODELS_DIR; of a hub id such as google/x, x is the name",
        parsing.path,
        default=Path("emoji-siglip"),
    )
    models: tuple[tuple[str, Path], ...] = variable(
        "MODELS", "several models: name=path,name=path; the first is the default model", parsing.named_paths, default=()
    )
    model_config: Path | None = variable(
        "MODEL_CONFIG",
        "catalogue of models in YAML (docs/serving-several-models.md); MODELS chooses among them, not set: all of them "
        "are served",
        parsing.path,
        default=None,
    )
    aliases: tuple[tuple[str, str], ...] = variable(
        "ALIASES",
        "further names of served models in a request's `model`: alias=model,alias=model",
        parsing.aliases,
        default=(),
    )
    models_dir: Path = variable(
        "MODELS_DIR", "directory in which a model's name is looked up", parsing.path, default=Path("quantized_models")
    )
    device: str = variable(
        "DEVICE MODEL_DEVICE", "auto, cpu, cuda[:n] or openvino[:GPU]", parsing.device, default="auto"
    )
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
    preload: str = variable(
        "PRELOAD",
        "all or default: models that are loaded at the start, which fails if one of them cannot be loaded; "
        "others load with their first request",
        parsing.choice("all", "default"),
        default="all",
    )
    text_template: str | None = variable(
        "TEXT_TEMPLATE",
        "sentence with {} in place of the text, around every text that is embedded or ranked; changes the space_id; "
        "not set: none",
        parsing.template,
        default=None,
    )
    max_patches: int | None = variable(
        "MAX_PATCHES",
        "most patches per image of NaFlex models, fewer for speed, more for detail; a request's `max_patches` decides "
        "where it is given; not set: the checkpoint's own number",
        parsing.integer(1, 4096),
        default=None,
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
        parsing.path,
        default=None,
    )

    host: str = variable(
        "HOST", "address to listen on; 0.0.0.0 or :: for every interface", parsing.host, default="127.0.0.1"
    )
    port: int = variable("PORT", "port to listen on", parsing.integer(0, 65535), default=8000)
    workers: int | Literal["auto"] = variable(
        "WORKERS",
        "number of server processes, each with its own model; auto: chosen from the cores and the memory",
        parsing.or_auto(parsing.integer(1, 256)),
        default=1,
    )
    auto_scale_workers: bool = variable(
        "AUTO_SCALE_WORKERS",
        "choose MAX_CONCURRENT_BATCHES from the cores; false: 2, unless it is set",
        parsing.boolean,
        default=True,
    )
    cpu_utilization_factor: float = variable(
        "CPU_UTILIZATION_FACTOR", "share of the cores to use", parsing.number(0.05, 1.0), default=1.0
    )
    threads: int = variable(
        "THREADS",
        "requests that one worker computes at the same time; not set: at least BATCH_SIZE",
        parsing.integer(4, 1024),
        default=96,
    )
    request_timeout_s: float = variable(
        "REQUEST_TIMEOUT", "seconds per request; after them the answer is 504", parsing.number(0.1, 3600), default=60.0
    )

    batch_size: int = variable(
        "BATCH_SIZE ENABLE_BATCHING BATCH_WINDOW_MAX_SIZE",
        "upper bound of the rows in one run of a tower; the plan often stays below it (batch_size in /health); "
        "ENABLE_BATCHING=false means 1",
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
        "MAX_CONCURRENT_BATCHES MAX_CONCURRENT",
        "runs at the same time per worker, all models and towers together; not set: chosen from the cores",
        parsing.integer(1, 1024),
        default=None,
    )
    max_queue_size: int = variable(
        "MAX_QUEUE_SIZE",
        "rows that may wait per tower; above it the answer is 429; not set: at least MAX_BATCH_SIZE",
        parsing.integer(1, 100_000),
        default=512,
    )
    max_waiting_requests: int | None = variable(
        "MAX_WAITING_REQUESTS",
        "requests per worker that wait for one of the THREADS; above it the answer is 429; "
        "not set: MAX_QUEUE_SIZE if that is set, no limit with QUEUE_OVERFLOW_ACTION=wait",
        parsing.integer(0, 100_000),
        default=0,
    )
    queue_overflow_action: str = variable(
        "QUEUE_OVERFLOW_ACTION",
        "when the queue is full: reject (429) or wait",
        parsing.choice("reject", "wait"),
        default="reject",
    )
    embedding_cache_size: int | None = variable(
        "EMBEDDING_CACHE_SIZE",
        "most embeddings in the cache, per model and worker (0 disables it); not set: EMBEDDING_CACHE_BYTES limits it",
        parsing.integer(0, 1_000_000_000),
        default=None,
    )
    embedding_cache_bytes: int | None = variable(
        "EMBEDDING_CACHE_BYTES",
        "most bytes in the cache, per model and worker (0 disables it); no limit when only EMBEDDING_CACHE_SIZE is set",
        parsing.size,
        default=16 << 20,
    )

    max_batch_size: int = variable(
        "MAX_BATCH_SIZE",
        "inputs per request; not set: at most MAX_QUEUE_SIZE",
        parsing.integer(1, 100_000),
        default=256,
    )
    max_text_chars: int = variable(
        "MAX_TEXT_CHARS", "characters per text", parsing.integer(1, 10_000_000), default=131_072
    )
    max_body_bytes: int = variable("MAX_BODY_BYTES", "bytes per request body", parsing.size, default=64 << 20)
    max_image_bytes: int = variable("MAX_IMAGE_BYTES", "bytes per image file", parsing.size, default=20 << 20)
    max_image_pixels: int = variable("MAX_IMAGE_PIXELS", "pixels per image", parsing.size, default=64_000_000)
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
        "hosts from which images are fetched, whatever their address: `host` (ports 80 and 443) or `host:port`; "
        "`*` beside them for every public host; empty: every public host; with hosts listed, only those",
        parsing.hosts,
        default=(),
    )
    image_root: Path | None = variable(
        "IMAGE_ROOT",
        "directory from which image file paths are accepted; not set: no file paths",
        parsing.path,
        default=None,
    )

    api_keys: tuple[str, ...] = variable(
        "API_KEYS", "API keys, comma-separated; not set: no key is needed", parsing.names, default=(), secret=True
    )
    api_keys_file: Path | None = variable("API_KEYS_FILE", "file with one API key per line", parsing.path, default=None)
    protect_metrics: bool = variable(
        "PROTECT_METRICS", "require an API key for /metrics too", parsing.boolean, default=False
    )
    cors_allow_origins: tuple[str, ...] = variable(
        "CORS_ALLOW_ORIGINS",
        "origins that browsers may call from, comma-separated, as https://example.com; `*`: every origin; empty: none",
        parsing.origins,
        default=(),
    )

    enable_metrics: bool = variable("ENABLE_METRICS", "serve /metrics", parsing.boolean, default=True)
    enable_warmup: bool = variable(
        "ENABLE_WARMUP", "run every tower once before the server is ready", parsing.boolean, default=True
    )
    warmup_steps: int = variable("WARMUP_STEPS", "warm-up runs per tower", parsing.integer(1, 100), default=1)
    warmup_batch_size: int = variable("WARMUP_BATCH_SIZE", "rows per warm-up run", parsing.integer(1, 1024), default=1)
    log_format: str = variable("LOG_FORMAT", "text or json", parsing.choice("text", "json"), default="text")
    log_level: str = variable(
        "LOG_LEVEL SIGLIP_VERBOSE_OUTPUT",
        "debug, info, warning or error; SIGLIP_VERBOSE_OUTPUT=true means debug, false info",
        parsing.choice("debug", "info", "warning", "error"),
        default="info",
    )

    catalogue: Catalogue = Catalogue()
    """The content of MODEL_CONFIG."""
    model_is_set: bool = False
    notices: tuple[str, ...] = field(default=(), compare=False)
    """Sentences for the log: variables that have no effect, or another effect than the operator may expect."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings of one mapping. Raises SettingsInvalid."""
        return cls.read(environ)

    @classmethod
    def read(cls, *sources: Mapping[str, str], file: Mapping[str, str] | None = None) -> Settings:
        """The settings of several mappings; an earlier one wins, and `file`, the content of `.env`, comes last.

        Raises SettingsInvalid.
        """
        of_file = file or {}
        values, notices = read(variables(cls), [*sources, of_file])
        if "models" in values and _names_one_model([*sources, of_file]):
            del values["models"]
        elif "models" in values and "model" in values:
            notices.append("MODELS counts, and MODEL does not; the first of MODELS is the default model")
        if values.get("image_url_hosts") and not values.get("allow_image_urls"):
            notices.append("IMAGE_URL_HOSTS has no effect without ALLOW_IMAGE_URLS=true")
        environ = {name: value for source in sources for name, value in source.items()}
        notices += about_unknown_names(environ, of_file, known_names(cls))
        settings = cls(
            **limits.following(cls(**values), values) | values,
            model_is_set="model" in values,
            notices=tuple(dict.fromkeys(notices)),
        )
        limits.check(settings)
        return settings

    @property
    def keys(self) -> tuple[str, ...]:
        """API_KEYS and the lines of API_KEYS_FILE. Raises SettingsInvalid when the file cannot be read or is empty."""
        if self.api_keys_file is None:
            return self.api_keys
        text = read_text(self.api_keys_file, f"API_KEYS_FILE={self.api_keys_file}")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:  # an empty file must not open the server to everybody
            raise SettingsInvalid(f"API_KEYS_FILE={self.api_keys_file} is empty; allowed: a file with one key per line")
        return (*self.api_keys, *lines)

    @property
    def model_cache(self) -> Path | None:
        """Directory that keeps packed graphs and tunings between starts. None: nothing is kept, because PREPARE is off
        or this user has no home directory.
        """
        return (self.cache_dir or _user_cache()) if self.prepare else None

    @property
    def listed_models(self) -> list[ListedModel]:
        """The models to serve, the default model first."""
        return list_models(self)

    @property
    def named_models(self) -> dict[str, Path]:
        """Name of each served model -> its directory; the default model first."""
        return {model.name: model.directory for model in self.listed_models}


def _names_one_model(sources: Sequence[Mapping[str, str]]) -> bool:
    """Whether MODEL stands in a stronger source than MODELS, as the argument of a command does."""
    for source in sources:
        if source.get("MODELS", "").strip():
            return False
        if any(source.get(name, "").strip() for name in ("MODEL", "SIGLIP_MODEL")):
            return True
    return False


def _user_cache() -> Path | None:
    """None: this user has no home directory, as a random user id in a container."""
    try:
        directory = user_cache_path("siglip-edge")
    except RuntimeError:
        return None
    return directory if directory.is_absolute() else None  # older platformdirs give a directory called ~
