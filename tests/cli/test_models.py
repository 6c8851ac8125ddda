"""`siglip-edge models`: the table of known models, its filters, and the models that are here."""

import json

import pytest
from click.testing import CliRunner

from siglip_edge.cli.main import main
from siglip_edge.runtime.known_models import table
from tests.tiny_model import write_model


def models(*options: str, **environment: str):
    return CliRunner().invoke(main, ["models", *options], env=environment)


def ids(*options: str, **environment: str) -> list[str]:
    return [model["id"] for model in json.loads(models("--json", *options, **environment).stdout)]


def test_every_model_that_can_be_exported_is_listed():
    """And no other."""
    assert ids() == [model.id for model in table.known_models() if model.refused is None]
    assert "jinaai/jina-clip-v2" not in ids()


def test_a_small_box_gets_models_that_fit():
    """Every model is within the memory, and the recommendation for small boxes is among them."""
    found = json.loads(models("--json", "--images", "--memory", "512M").stdout)
    assert "google/siglip2-base-patch32-256" in [model["id"] for model in found]
    assert all(model["memory_mb"] * 1e6 <= 512 * 2**20 for model in found)
    assert "google/siglip2-large-patch16-256" not in [model["id"] for model in found]


def test_kind_and_language_filter():
    """Models of many languages stay for German; English ones go; Chinese-CLIP stays for Chinese only."""
    assert all(table.named(name).image for name in ids("--images"))
    assert not any(table.named(name).image for name in ids("--text"))
    assert {table.named(name).languages for name in ids("--language", "de")} == {"many"}
    assert {table.named(name).languages for name in ids("--language", "zh-CN")} == {"many", "zh"}


def test_models_in_the_folder_are_marked(tmp_path):
    """By the last part of their id, as `serve` finds them."""
    write_model(tmp_path / "siglip2-base-patch32-256")
    text = models(MODELS_DIR=str(tmp_path)).stdout
    assert [line.split()[0] for line in text.splitlines() if "*" in line.split(" ")[0]][:1] == [
        "google/siglip2-base-patch32-256*"
    ]
    present = [
        model["id"] for model in json.loads(models("--json", MODELS_DIR=str(tmp_path)).stdout) if model["present"]
    ]
    assert present == ["google/siglip2-base-patch32-256"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--images", "--text"], "--images and --text exclude each other"),
        (["--memory", "small"], "'small' cannot be read; give a whole number, also with k, M or G"),
        (["--memory", "1M"], "no known model fits"),
        (
            ["--language", "english"],
            "'english' is no code of a language; give two letters of ISO 639-1, as en, de or zh",
        ),
        (["--language", "xx"], "'xx' is no code of a language"),
        (["--language", ""], "'' is no code of a language"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(options, sentence):
    result = models(*options)
    assert result.exit_code
    assert sentence in result.stderr


def test_the_footer_is_right_for_the_models_above_it():
    """Text models need no pictures, and `many` is explained where it stands."""
    assert "--calibration-images" not in models("--text").stdout
    assert "--calibration-images" in models("--images").stdout
    assert "many: trained on many languages" in models("--language", "de").stdout
    assert "Make one" in models("--language", "EN").stdout
