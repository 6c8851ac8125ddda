"""The table of environment variables."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from siglip_edge.server.config import env_example
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.variables import SettingsInvalid, table


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
        ("DEVICE", "mps", "auto or cpu on a Mac, whose GPU onnxruntime does not use here"),
        ("EMBEDDING_CACHE_SIZE", "16M", "a whole number from 0 to 1000000000"),
        ("IMAGE_ROOT", "~nobody-has-this-name/x", "a path without ~, because this user has no home directory"),
        ("MAX_BODY_BYTES", "lots", "a whole number, also with k, M or G"),
        ("MODELS", "a=x,a=y", "name=path, comma-separated, no name twice; a is there 2 times"),
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
    ],
)
def test_values_that_contradict_each_other_are_refused(environ):
    """An error about two variables names both."""
    with pytest.raises(SettingsInvalid) as refusal:
        Settings.from_env(environ)
    assert all(name in str(refusal.value) for name in environ)


@pytest.mark.parametrize(
    ("given", "followed"),
    [
        ({"MAX_QUEUE_SIZE": "64"}, {"max_queue_size": 64, "max_batch_size": 64}),
        ({"MAX_BATCH_SIZE": "1000"}, {"max_queue_size": 1000, "max_batch_size": 1000}),
        ({"BATCH_SIZE": "200"}, {"batch_size": 200, "threads": 200}),
        ({"THREADS": "16"}, {"batch_size": 16, "threads": 16}),
        ({"EMBEDDING_CACHE_SIZE": "256"}, {"embedding_cache_size": 256, "embedding_cache_bytes": None}),
        (
            {"EMBEDDING_CACHE_SIZE": "256", "EMBEDDING_CACHE_BYTES": "1k"},
            {"embedding_cache_size": 256, "embedding_cache_bytes": 1024},
        ),
        ({}, {"max_queue_size": 512, "max_batch_size": 256, "batch_size": 32, "threads": 96}),
    ],
)
def test_a_limit_that_is_not_set_follows_from_those_that_are(given, followed):
    """No single value contradicts a default."""
    settings = Settings.from_env(given)
    assert {name: getattr(settings, name) for name in followed} == followed


def test_auto_is_the_default_of_every_number():
    """As an empty value. WORKERS=auto is a value of its own."""
    names = ["BATCH_SIZE", "BATCH_WAIT_TIME_MS", "MAX_CONCURRENT_BATCHES", "MAX_QUEUE_SIZE", "CPU_UTILIZATION_FACTOR"]
    assert Settings.from_env(dict.fromkeys([*names, "DEVICE", "LOG_FORMAT"], "auto")) == Settings()
    assert Settings.from_env({"WORKERS": "auto"}).workers == "auto"


def test_a_tilde_is_the_home_directory(monkeypatch):
    """In every setting that is a path, and in each path of MODELS."""
    monkeypatch.setenv("HOME", "/home/somebody")
    paths = dict.fromkeys(["MODEL", "MODELS_DIR", "CACHE_DIR", "IMAGE_ROOT", "API_KEYS_FILE"], "~/x")
    settings = Settings.from_env({**paths, "MODELS": "a=~/x,~/x"})
    assert {
        settings.model, settings.models_dir, settings.cache_dir, settings.image_root, settings.api_keys_file
    } == {Path("/home/somebody/x")}  # fmt: skip
    assert settings.models == (("a", Path("/home/somebody/x")), ("x", Path("/home/somebody/x")))


def test_models_by_name(tmp_path):
    """MODELS names several, the first one the default; a bare name is looked up in MODELS_DIR."""
    (tmp_path / "small").mkdir()
    settings = Settings.from_env({"MODELS": "fast=small,accurate=/m/large", "MODELS_DIR": str(tmp_path)})
    assert settings.named_models == {"fast": tmp_path / "small", "accurate": Path("/m/large")}
    assert Settings.from_env({"MODEL": "small", "MODELS_DIR": str(tmp_path)}).named_models == {
        "small": tmp_path / "small"
    }


@pytest.mark.parametrize("variable", ["MODEL", "SIGLIP_MODEL", "MODELS"])
def test_a_hub_id_is_the_directory_of_its_last_part(tmp_path, variable):
    """Below MODELS_DIR; its name is the last part."""
    (tmp_path / "siglip2-base").mkdir()
    settings = Settings.from_env({variable: "google/siglip2-base", "MODELS_DIR": str(tmp_path)})
    assert settings.named_models == {"siglip2-base": tmp_path / "siglip2-base"}


def test_a_model_directory_that_is_a_dot_has_that_directorys_name(tmp_path, monkeypatch):
    """MODEL=. and MODEL=.. are named after the directories that they are."""
    (tmp_path / "large/int8").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "large/int8")
    assert list(Settings.from_env({"MODEL": "."}).named_models) == ["int8"]
    assert list(Settings.from_env({"MODELS": "..,."}).named_models) == ["large", "int8"]


def test_a_directory_in_a_hubs_cache_has_the_repositorys_name():
    """Not that of the revision."""
    directory = "/cache/hub/models--google--siglip2-base/snapshots/0123abcd"
    assert list(Settings.from_env({"MODEL": directory}).named_models) == ["siglip2-base"]


def test_the_example_file_with_every_line_in_use_changes_nothing():
    """`.env.example`, its comments removed, gives the defaults, and no name in it is unknown."""
    lines = re.sub("^#([A-Z])", r"\1", env_example.text(), flags=re.MULTILINE)
    variables = {name: value or "" for name, value in dotenv_values(stream=io.StringIO(lines)).items()}
    assert len(variables) > 40
    settings = Settings.read({}, file=variables)
    assert settings.notices == ()
    assert Settings.read({}, file={**variables, "MODEL": ""}) == Settings()


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


def test_a_user_without_a_home_directory_keeps_nothing(monkeypatch):
    """No directory called `~` is made in the working directory."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    assert Settings.from_env({}).model_cache is None
    assert Settings.from_env({"CACHE_DIR": "/elsewhere"}).model_cache == Path("/elsewhere")


def test_hosts_without_leave_to_fetch_are_noticed():
    """IMAGE_URL_HOSTS alone allows nothing."""
    (notice,) = Settings.from_env({"IMAGE_URL_HOSTS": "nas.local:8080"}).notices
    assert "ALLOW_IMAGE_URLS=true" in notice
    assert not Settings.from_env({"IMAGE_URL_HOSTS": "nas.local:8080", "ALLOW_IMAGE_URLS": "true"}).notices


@pytest.mark.parametrize("origin", ["nonsense", "https://a.example/path", "a.example:80", "https://"])
def test_an_origin_that_no_browser_sends_is_refused(origin):
    """It would allow nothing, without a word."""
    with pytest.raises(SettingsInvalid, match="CORS_ALLOW_ORIGINS"):
        Settings.from_env({"CORS_ALLOW_ORIGINS": f"https://b.example:8443,{origin}"})


@pytest.mark.parametrize("name", ["TEXT_TEMPLATE", "API_KEYS", "ALIASES", "IMAGE_URL_HOSTS"])
def test_bytes_that_are_no_text_are_refused(name):
    """The system gives them as halves of characters, which would fail a worker later; a path may have any bytes."""
    with pytest.raises(SettingsInvalid, match=name):
        Settings.from_env({name: b"caf\xe9={}".decode(errors="surrogateescape")})
    assert Settings.from_env({"IMAGE_ROOT": b"/srv/caf\xe9".decode(errors="surrogateescape")}).image_root
