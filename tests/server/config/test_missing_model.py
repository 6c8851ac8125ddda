"""The sentence about a model directory that is not there names the command that makes one."""

from __future__ import annotations

import json

import pytest

from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.missing_model import absence
from tests.tiny_model import write_model


def sentence(models_dir, **environ: str) -> str | None:
    (model,) = read_settings(MODELS_DIR=str(models_dir), **environ).listed_models
    return absence(model)


def write_checkpoint(directory, *files: str, **config: object):
    directory.mkdir()
    for name in files or ["config.json"]:
        (directory / name).write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    ("files", "config", "images"),
    [
        (["config.json"], {"model_type": "clip", "vision_config": {}}, " --calibration-images DIR"),
        (["open_clip_config.json"], {}, " --calibration-images DIR"),
        (["config.json", "modules.json"], {"model_type": "bert"}, ""),
        (["modules.json"], {}, ""),
    ],
)
@pytest.mark.parametrize("variable", ["MODEL", "MODELS"])
def test_a_checkpoint_is_exported_to_the_folder_of_models(tmp_path, files, config, images, variable):
    """Under its own name; pictures are asked for only where it has images."""
    checkpoint, models = write_checkpoint(tmp_path / "clip", *files, **config), tmp_path / "models"
    assert sentence(models, **{variable: str(checkpoint)}) == (
        f"{checkpoint} is a checkpoint, not a model directory; "
        f"make one: siglip-edge export {checkpoint} -o {models}{images}"
    )


def test_a_checkpoint_in_the_folder_of_models_keeps_its_place(tmp_path):
    """The command gives the model directory another name."""
    write_checkpoint(tmp_path / "text", model_type="bert")
    assert str(sentence(tmp_path, MODEL="text")).endswith(
        f"siglip-edge export {tmp_path / 'text'} -o {tmp_path} --name text-quantized"
    )


def test_an_empty_folder_is_left_alone(tmp_path):
    """No command writes onto it."""
    (tmp_path / "empty").mkdir()
    assert sentence(tmp_path / "models", MODEL=str(tmp_path / "empty")) == (
        f"{tmp_path / 'empty'} is no model directory: it has no manifest.json; "
        f"make one elsewhere: siglip-edge export CHECKPOINT -o {tmp_path / 'models'} --calibration-images DIR"
    )


def test_of_a_model_that_is_there_nothing_is_said(tmp_path):
    write_model(tmp_path / "tiny")
    assert sentence(tmp_path, MODEL="tiny") is None
