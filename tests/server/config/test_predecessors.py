"""Settings of earlier servers, as their own documents publish them."""

from __future__ import annotations

import shlex
from dataclasses import asdict

import pytest

from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import wishes, worker_count


def settings_of(lines: str) -> Settings:
    """The settings of `NAME=value` lines, as a shell reads them."""
    return Settings.from_env(dict(word.split("=", 1) for word in shlex.split(lines, comments=True)))


def docker(command: str) -> Settings:
    """The settings of a `docker run` command."""
    words = shlex.split(command)
    return Settings.from_env(dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-e"))


def changed(settings: Settings) -> dict:
    """The fields that differ from their defaults."""
    usual = asdict(Settings())
    return {name: value for name, value in asdict(settings).items() if value != usual[name] and name != "notices"}


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("docker run -p 8000:8000 siglip2-api", {}),
        ("docker run -e MAX_CONCURRENT_BATCHES=4 -p 8000:8000 siglip2-api", {"max_concurrent_batches": 4}),
        ("docker run -e BATCH_SIZE=12 -p 8000:8000 siglip2-api", {"batch_size": 12}),
        (
            "docker run -e AUTO_SCALE_WORKERS=false -e MAX_CONCURRENT_BATCHES=2 -p 8000:8000 siglip2-api",
            {"auto_scale_workers": False, "max_concurrent_batches": 2},
        ),
        ("docker run --gpus all -e SIGLIP_VERBOSE_OUTPUT=true siglip2-api", {"log_level": "debug"}),
    ],
)
def test_siglip2_apis_commands(command, fields):
    """Each variable of `docker run -e` means what it meant there."""
    assert changed(docker(command)) == fields
    assert docker(command).notices == ()


def test_siglip2_apis_model(tmp_path):
    """SIGLIP_MODEL is a hub id; the directory that was exported from it has its last part as name."""
    (tmp_path / "siglip2-large-patch16-512").mkdir()
    given = docker(
        f"docker run --gpus all -e SIGLIP_MODEL=google/siglip2-large-patch16-512 -e MODELS_DIR={tmp_path} siglip2-api"
    )
    assert given.named_models == {"siglip2-large-patch16-512": tmp_path / "siglip2-large-patch16-512"}


def test_siglip2_apis_image():
    """The variables that its Dockerfile sets, `auto` among them."""
    given = settings_of("""
        AUTO_SCALE_WORKERS=true CPU_UTILIZATION_FACTOR=0.85 BATCH_SIZE=auto BATCH_WAIT_TIME_MS=auto MAX_QUEUE_SIZE=1000
        SIGLIP_VERBOSE_OUTPUT=true
    """)
    assert changed(given) == {
        "cpu_utilization_factor": 0.85,
        "max_queue_size": 1000,
        "max_waiting_requests": 1000,
        "log_level": "debug",
    }
    assert given.notices == ()


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        (
            "BATCH_SIZE=16 BATCH_WAIT_TIME_MS=25 MAX_QUEUE_SIZE=2000",
            {"batch_size": 16, "batch_wait_time_ms": 25.0, "max_queue_size": 2000, "max_waiting_requests": 2000},
        ),
        (
            "BATCH_SIZE=4 BATCH_WAIT_TIME_MS=10 MAX_CONCURRENT_BATCHES=8",
            {"batch_size": 4, "batch_wait_time_ms": 10.0, "max_concurrent_batches": 8},
        ),
        (
            "MAX_CONCURRENT_BATCHES=2 BATCH_SIZE=4 AUTO_SCALE_WORKERS=false",
            {"max_concurrent_batches": 2, "batch_size": 4, "auto_scale_workers": False},
        ),
    ],
    ids=["high throughput", "low latency", "memory constrained"],
)
def test_the_batching_guides_presets(preset, fields):
    """Its three groups of variables."""
    assert changed(settings_of(preset)) == fields


def test_the_batching_guides_table():
    """Its list of variables with their defaults."""
    given = settings_of("""
        BATCH_SIZE=8                    # Items per batch (default: 8)
        BATCH_WAIT_TIME_MS=50           # Max wait to fill batch (default: 50ms)
        AUTO_SCALE_WORKERS=true         # Enable auto-scaling (default: true)
        CPU_UTILIZATION_FACTOR=0.75     # Use 75% of CPUs (default: 0.75)
        MAX_CONCURRENT_BATCHES=6        # Override auto-detected worker count
        MAX_QUEUE_SIZE=1000             # Max queued requests (default: 1000)
        REQUEST_TIMEOUT=300             # Max request lifetime in seconds (default: 300)
        QUEUE_OVERFLOW_ACTION=reject    # "reject" or "wait" (default: reject)
    """)
    assert (given.batch_size, given.max_concurrent_batches, given.request_timeout_s) == (8, 6, 300.0)
    assert given.notices == ()


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        (
            """MODEL_DEVICE=cuda MAX_CONCURRENT=1 BATCH_WINDOW_MS=4 BATCH_WINDOW_MAX_SIZE=16 MAX_QUEUE_SIZE=128
            ENABLE_WARMUP=1 WARMUP_STEPS=2 WARMUP_BATCH_SIZE=8""",
            {
                "device": "cuda",
                "max_concurrent_batches": 1,
                "batch_wait_time_ms": 4.0,
                "batch_size": 16,
                "max_queue_size": 128,
                "max_batch_size": 128,
                "max_waiting_requests": 128,
                "warmup_steps": 2,
                "warmup_batch_size": 8,
            },
        ),
        ("BATCH_WINDOW_MS=0 MAX_CONCURRENT=1", {"max_concurrent_batches": 1}),
    ],
    ids=["single RTX-class GPU", "latency-sensitive"],
)
def test_simple_inference_servers_gpu_presets(preset, fields):
    """Its starting points for GPUs."""
    assert changed(settings_of(preset)) == fields
    assert settings_of(preset).notices == ()


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"MODEL_DEVICE": "cuda:1"}, {"DEVICE": "cuda:1"}),
        ({"ENABLE_BATCHING": "0"}, {"BATCH_SIZE": "1"}),
        ({"ENABLE_BATCHING": "0", "BATCH_WINDOW_MAX_SIZE": "16"}, {"BATCH_SIZE": "1"}),
        ({"ENABLE_BATCHING": "1", "BATCH_WINDOW_MAX_SIZE": "16"}, {"BATCH_SIZE": "16"}),
        ({"SIGLIP_VERBOSE_OUTPUT": "false"}, {"LOG_LEVEL": "info"}),
        ({"EMBEDDING_CACHE_SIZE": "256"}, {"EMBEDDING_CACHE_SIZE": "256"}),
    ],
)
def test_other_words_for_the_same(given, same):
    """A variable of an earlier server sets the field that this server's variable sets."""
    assert Settings.from_env(given) == Settings.from_env(same)


def test_a_macs_gpu_becomes_the_cpu_with_a_notice():
    """Who moves in with MODEL_DEVICE=mps gets a server; the log says on which device."""
    given = Settings.from_env({"MODEL_DEVICE": "mps"})
    assert given.device == "cpu"
    assert given.notices == ("MODEL_DEVICE=mps: onnxruntime does not use Apple's GPU here, so the CPU serves",)


def test_two_names_of_one_setting():
    """The own name of this server counts, and a notice says which name does not; equal values are no conflict."""
    given = Settings.from_env({"BATCH_SIZE": "16", "ENABLE_BATCHING": "0"})
    assert given.batch_size == 16
    (notice,) = given.notices
    assert notice == (
        "BATCH_SIZE='16' counts, and ENABLE_BATCHING='0' does not: both are names of one setting; "
        "remove ENABLE_BATCHING"
    )
    assert Settings.from_env({"BATCH_WAIT_TIME_MS": "4.0", "BATCH_WINDOW_MS": "4"}).notices == ()


def test_an_alias_in_the_environment_wins_over_a_name_in_the_file():
    """Sources come before names: `docker run -e SIGLIP_MODEL=…` beats MODEL in `.env`."""
    given = Settings.read({"SIGLIP_MODEL": "/m/a"}, file={"MODEL": "/m/b"})
    assert list(given.named_models) == ["a"]
    assert given.notices == ()


def cpu(cores: int) -> CpuBudget:
    return CpuBudget(physical=cores, logical=cores, usable=cores, quota=None, memory=64 << 30, isa=())


def test_automatic_scaling_is_about_runs_not_processes():
    """AUTO_SCALE_WORKERS=true leaves the number of runs to the plan; false means two, as in siglip2-api."""
    for value, runs in [("true", None), ("false", 2)]:
        given = Settings.from_env({"AUTO_SCALE_WORKERS": value})
        assert worker_count(given, cpu(16)) == 1
        assert wishes(given, cpu(16)).max_concurrent_batches == runs
    assert wishes(Settings.from_env({"CPU_UTILIZATION_FACTOR": "0.75"}), cpu(16)).intra_op_threads == 12
    assert worker_count(Settings.from_env({"WORKERS": "auto"}), cpu(16)) == 16
