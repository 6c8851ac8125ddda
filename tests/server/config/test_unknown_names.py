"""Variables that look like settings and are none."""

from __future__ import annotations

import pytest

from siglip_edge.server.config.settings import Settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BATCHSIZE", "BATCH_SIZE"),
        ("MAX_QUEUESIZE", "MAX_QUEUE_SIZE"),
        ("BATCH_SISE", "BATCH_SIZE"),
        ("siglip_model", "SIGLIP_MODEL"),
        ("MAX_CONCURRENCY", "MAX_CONCURRENT"),
        ("API_KEY", "API_KEYS"),
        ("MODEL_DIR", "MODELS_DIR"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("SIGLIP_EDGE_BATCH_SIZE", "BATCH_SIZE"),
        ("UVICORN_PORT", "PORT"),
        ("EMBEDDING_BATCH_WINDOW_MS", "BATCH_WINDOW_MS"),
        ("WEB_CONCURRENCY", "WORKERS"),
    ],
)
def test_a_name_near_a_setting_is_told(name, meant):
    """One sentence names the setting that was meant; the setting keeps its default."""
    settings = Settings.from_env({name: "7"})
    assert settings == Settings()
    assert settings.notices == (f"{name} is no setting and has no effect; did you mean {meant}?",)


FOREIGN = """
PATH HOME HOSTNAME LANG LOGNAME MAIL MODE PWD SHELL SHLVL TERM TMPDIR TZ USER XDG_RUNTIME_DIR DISPLAY LS_COLORS EDITOR
KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_PORT_443_TCP_PORT KUBERNETES_PORT_443_TCP_PROTO
INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID LISTEN_FDS NOTIFY_SOCKET CACHE_DIRECTORY LOGS_DIRECTORY STATE_DIRECTORY
PYTHON_VERSION PYTHON_SHA256 PYTHONUNBUFFERED PYTHONPATH GPG_KEY VIRTUAL_ENV PIP_NO_CACHE_DIR CONDA_DEFAULT_ENV
NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES CUDA_VISIBLE_DEVICES CUDA_VERSION NV_CUDNN_VERSION LD_LIBRARY_PATH
OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS MALLOC_ARENA_MAX HF_TOKEN HF_HOME HF_HUB_OFFLINE TORCH_HOME
TRANSFORMERS_CACHE GUNICORN_CMD_ARGS PROMETHEUS_MULTIPROC_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE CI
GITHUB_WORKSPACE GITHUB_TOKEN RUNNER_TEMP SLURM_JOB_ID SSH_CONNECTION COMPOSE_PROJECT_NAME LOG_DIR LOG_FILE LOG_COLOR
POSTGRES_HOST REDIS_PORT REDIS_SERVICE_HOST OLLAMA_HOST OLLAMA_MODELS OPENAI_API_KEY AWS_REGION MODEL_NAME SIGLIP_EDGE
SIGLIP_EDGE_SERVICE_HOST SIGLIP_EDGE_SERVICE_PORT SIGLIP_EDGE_PORT_8000_TCP_ADDR OTEL_SERVICE_NAME SERVER_SOFTWARE
"""


def test_other_programs_variables_are_left_alone():
    """The environments of containers, Kubernetes, systemd, CI and shells cause no word."""
    assert Settings.from_env(dict.fromkeys(FOREIGN.split(), "1")).notices == ()


def test_what_a_container_engine_sets_for_a_service_of_our_name():
    """A service called siglip-edge gives every other container an address under a name that looks like PORT."""
    assert Settings.from_env({"SIGLIP_EDGE_PORT": "tcp://10.0.0.1:8000"}).notices == ()


def test_every_unknown_name_of_the_file_is_told():
    """`.env` is this server's own: nothing else reads it."""
    settings = Settings.read({}, file={"PORT": "1", "BATCHSIZE": "2", "HF_TOKEN": "x"})
    assert settings.port == 1
    assert settings.notices == (
        ".env: BATCHSIZE is no setting and has no effect; did you mean BATCH_SIZE?",
        ".env: HF_TOKEN is no setting and has no effect; other programs read the environment only",
    )
