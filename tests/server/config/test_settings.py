"""The table of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from siglip_edge.server.config.settings import Settings, SettingsInvalid, table


def test_nothing_set_gives_the_defaults():
    """An empty environment is valid, and empty values count as not set."""
    assert Settings.from_env({}) == Settings() == Settings.from_env({"PORT": "", "MODEL": " "})


def test_values_are_read():
    """Each kind of value is read."""
    settings = Settings.from_env(
        {
            "PORT": "9000",
            "BATCH_WAIT_TIME_MS": "2.5",
            "ALLOW_IMAGE_URLS": "yes",
            "MAX_BODY_BYTES": "2M",
            "IMAGE_URL_HOSTS": "a.example, b.example",
            "LOG_FORMAT": "JSON",
            "IMAGE_ROOT": "/srv/images",
            "UNKNOWN": "ignored",
        }
    )
    assert (settings.port, settings.batch_wait_time_ms, settings.allow_image_urls) == (9000, 2.5, True)
    assert (settings.max_body_bytes, settings.image_url_hosts) == (2 << 20, ("a.example", "b.example"))
    assert (settings.log_format, settings.image_root) == ("json", Path("/srv/images"))


@pytest.mark.parametrize(
    ("alias", "name"),
    [("SIGLIP_MODEL", "MODEL"), ("BATCH_WINDOW_MS", "BATCH_WAIT_TIME_MS"), ("BATCH_WINDOW_MAX_SIZE", "BATCH_SIZE")],
)
def test_the_predecessors_names_are_aliases(alias, name):
    """An alias sets the same field as the name; if both are set, the name counts."""
    assert Settings.from_env({alias: "7"}) == Settings.from_env({name: "7"}) != Settings()
    assert Settings.from_env({alias: "7", name: "8"}) == Settings.from_env({name: "8"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "eighty", "a whole number from 0 to 65535"),
        ("PORT", "70000", "a whole number from 0 to 65535"),
        ("REQUEST_TIMEOUT", "nan", "a number from 0.1 to 3600"),
        ("ENABLE_METRICS", "maybe", "true or false"),
        ("TOWERS", "audio", "text, vision, both"),
        ("LOAD_TOWERS", "later", "start, first-use"),
        ("IDLE_UNLOAD_S", "-1", "a number from 0 to 604800"),
        ("PRECISION", "int2", "auto, int8, int4, fp16, fp32"),
        ("DEVICE", "tpu", "auto, cpu, cuda, cuda:N, openvino or openvino:GPU"),
        ("MAX_BODY_BYTES", "lots", "a whole number, also with k, M or G"),
        ("MODELS", "a=x,a=y", "name=path, comma-separated, no name twice"),
    ],
)
def test_a_wrong_value_is_one_sentence(name, value, allowed):
    """The sentence names the variable, the value and the allowed values."""
    with pytest.raises(SettingsInvalid) as refusal:
        Settings.from_env({name: value})
    assert str(refusal.value) == f"{name}={value!r} cannot be read; allowed: {allowed}"


@pytest.mark.parametrize(
    "environ",
    [
        {"THREADS": "8", "BATCH_SIZE": "16"},
        {"MAX_QUEUE_SIZE": "10", "MAX_BATCH_SIZE": "20"},
        {"DEVICE": "cpu", "PRECISION": "fp16"},
    ],
)
def test_values_that_contradict_each_other_are_refused(environ):
    """An error about two variables names both."""
    with pytest.raises(SettingsInvalid) as refusal:
        Settings.from_env(environ)
    assert all(name in str(refusal.value) for name in environ)


def test_models_by_name(tmp_path):
    """MODELS names several, the first one the default; a bare name is looked up in MODELS_DIR."""
    (tmp_path / "small").mkdir()
    settings = Settings.from_env({"MODELS": "fast=small,accurate=/m/large", "MODELS_DIR": str(tmp_path)})
    assert settings.named_models == {"fast": tmp_path / "small", "accurate": Path("/m/large")}
    assert Settings.from_env({"MODEL": "small", "MODELS_DIR": str(tmp_path)}).named_models == {
        "small": tmp_path / "small"
    }


def test_the_table_shows_values_in_force_and_no_secret():
    """The table lists every variable once, with the value in force; of keys it shows the number only."""
    rows = {row.names[0]: row for row in table(Settings.from_env({"PORT": "9000", "API_KEYS": "hunter2,other"}))}
    assert rows["PORT"].value == "9000"
    assert rows["PORT"].default == "8000"
    assert rows["API_KEYS"].value == "(2 set)"
    assert all(row.meaning for row in rows.values())


def test_prepared_models_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert Settings.from_env({}).model_cache == Path("/somewhere/siglip-edge")
    assert Settings.from_env({"CACHE_DIR": "/elsewhere"}).model_cache == Path("/elsewhere")
    assert Settings.from_env({"PREPARE": "false"}).model_cache is None
