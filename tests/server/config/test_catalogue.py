"""MODEL_CONFIG: a catalogue of models in YAML."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from siglip_edge.server.config.catalogue import read_catalogue
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.variables import SettingsInvalid


@pytest.fixture
def file(tmp_path):
    """`file(text)` -> the path of a catalogue."""

    def write(text):
        path = tmp_path / "models.yaml"
        path.write_text(dedent(text))
        return path

    return write


def listed(file: Path, **given: str):
    """-> the models that the settings list."""
    return read_settings(MODEL_CONFIG=str(file), MODELS_DIR=str(file.parent), **given).listed_models


OURS = """
models:
  - name: photos
    path: /srv/siglip2-base
    family: siglip
    aliases: [text-embedding-3-small]
  - name: search
    hf_repo_id: google/siglip2-small
    prompts: {default: "query: "}
"""


def test_every_model_of_the_catalogue_is_served(file):
    """In its order; a hub id is looked up in MODELS_DIR and is an alias."""
    photos, search = listed(file(OURS))
    assert (photos.name, photos.directory, photos.family) == ("photos", Path("/srv/siglip2-base"), "siglip")
    assert photos.aliases == ("text-embedding-3-small",)
    assert search.directory.name == "siglip2-small"
    assert set(search.aliases) == {"google/siglip2-small", "siglip2-small"}
    assert search.text_template == "query: {}"


def test_models_chooses_and_renames(file):
    """MODELS names entries of the catalogue, other directories too; MODEL names one entry."""
    path = file(OURS)
    assert [model.name for model in listed(path, MODELS="search")] == ["search"]
    fast, other = listed(path, MODELS="fast=photos,/m/other")
    assert (fast.name, fast.directory) == ("fast", Path("/srv/siglip2-base"))
    assert (other.name, other.directory) == ("other", Path("/m/other"))
    assert [model.directory for model in listed(path, MODEL="photos")] == [Path("/srv/siglip2-base")]


def test_a_directory_of_the_models_own_name_is_found(file, tmp_path):
    """Where MODELS_DIR has the directory under the name of the catalogue, not of the hub id."""
    (tmp_path / "search").mkdir()
    assert listed(file(OURS), MODELS="search")[0].directory == tmp_path / "search"


def test_simple_inference_servers_catalogue(file):
    """Its model_config.yaml, as its README describes the fields; the handler's class is told to have no effect."""
    path = file("""
        models:
          - name: bge-m3
            hf_repo_id: BAAI/bge-m3
            handler: app.models.bge_m3.BgeM3Embedding
          - name: embedding-gemma-300m
            hf_repo_id: google/embeddinggemma-300m
            handler: app.models.embedding_gemma.EmbeddingGemmaEmbedding
    """)
    settings = read_settings(MODEL_CONFIG=str(path), MODELS="bge-m3", MODELS_DIR=str(path.parent))
    (model,) = settings.listed_models
    assert (model.name, model.directory) == ("bge-m3", path.parent / "bge-m3")
    assert model.remedy == f"make one: siglip-edge export BAAI/bge-m3 -o {path.parent}"
    assert settings.notices == (f"{path}, line 5: handler has no effect; the model directory says how it is run",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("models: [", "line 1: expected the node content, but found '<stream end>'"),
        ("", "line 1: the file is no mapping with models"),
        ("model: []", "line 1: model is no field of the file; did you mean models?"),
        ("models: []", "line 1: models is no list of models"),
        ("models:\n  - a", "line 2: models is no mapping with name, path"),
        ("models:\n  - name: a", "line 2: path is missing; give a model directory, or hf_repo_id: a hub id"),
        ("models:\n  - path: a\n    familly: siglip", "line 3: familly is no field of models; did you mean family?"),
        ("models:\n  - path: a\n    path: b", "line 2: path stands there twice"),
        ("models:\n  - path: a\n  - path: a", "line 3: name 'a' stands in the list twice"),
        ("models:\n  - path: a\n    aliases: b", "line 3: aliases is no list of texts"),
        ("models:\n  - path: a\n    prompts: {query: x}", "line 3: query is no field of prompts; allowed: default"),
        ("models:\n  - path: ~nobody-has-this-name/a", "line 2: path cannot be read; allowed: a path without ~"),
        ("models:\n  - path: a\n    prompts: {}", "line 3: prompts has no default"),
    ],
)
def test_an_error_names_file_line_and_field(file, text, sentence):
    """And what is allowed."""
    path = file(text)
    with pytest.raises(SettingsInvalid) as refusal:
        read_catalogue(path)
    assert str(refusal.value).startswith(f"{path}, {sentence}")


def test_a_catalogue_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"MODEL_CONFIG=.*none\.yaml cannot be read: No such file or directory"):
        read_settings(MODEL_CONFIG=str(tmp_path / "none.yaml"))
