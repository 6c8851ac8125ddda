"""Exported models of several families, side by side in one comparison."""

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from siglip_edge.cli.main import main


@pytest.mark.slow
def test_clip_is_compared_with_siglip(exported, exported_of, tmp_path):
    """On the same labelled pictures: each with its template and its own image rule; calibration is SigLIP's alone."""
    for label, colour in {"red-apple": "red", "green-pear": "green"}.items():
        (tmp_path / label).mkdir()
        Image.new("RGB", (60, 40), colour).save(tmp_path / label / "0.png")
    arguments = [str(exported), str(exported_of("clip")), "--data", str(tmp_path), "--rounds", "2", "--seconds", "0.1"]
    result = CliRunner().invoke(main, ["evaluate", *arguments, "--json", "-"])
    assert result.exit_code == 0, result.output
    comparison = json.loads(result.stdout)
    siglip, clip = comparison["models"]
    assert [siglip["family"], clip["family"]] == ["siglip", "clip"]
    assert (len(siglip["calibrations"]), len(clip["calibrations"])) == (2, 0)
    assert siglip["template"] != clip["template"]
    assert clip["speed"]["vision"]["ratio"] > 0 < clip["speed"]["text"]["ratio"]
    assert len(comparison["agreements"]) == 1


@pytest.mark.slow
def test_numbers_of_patches_of_a_naflex_model_are_compared(exported_of, tmp_path):
    """Each number is a column of its own; a number that the model does not take fails alone; CLIP has no choice."""
    (tmp_path / "bear").mkdir()
    Image.linear_gradient("L").resize((300, 200)).save(tmp_path / "bear/0.png")
    models = [str(exported_of("naflex")), str(exported_of("clip"))]
    options = ["--data", str(tmp_path), "--max-patches", "16,64,9000", "--rounds", "0", "--json", "-"]
    result = CliRunner().invoke(main, ["evaluate", *models, *options])
    assert result.exit_code == 1
    found = {model["label"]: model["error"] for model in json.loads(result.stdout)["models"]}
    assert found == {
        "naflex 16 patches": None,
        "naflex 64 patches": None,
        "naflex 9000 patches": found["naflex 9000 patches"],
        "clip": None,
    }
    assert "max_patches is 9000" in found["naflex 9000 patches"]


@pytest.mark.slow
def test_a_text_encoder_is_compared_with_image_text_models(exported, exported_of, tmp_path):
    """On sentence pairs every family's text tower answers, alone in memory."""
    pairs = [f"a cat,a cat and {number} dogs,{5 - number}" for number in range(5)]
    (tmp_path / "sts.csv").write_text("\n".join(["sentence1,sentence2,score", *pairs]))
    models = [str(exported), *(str(exported_of(family)) for family in ("clip", "minilm"))]
    options = ["--data", str(tmp_path / "sts.csv"), "--rounds", "1", "--seconds", "0.1", "--json", "-"]
    result = CliRunner().invoke(main, ["evaluate", *models, *options])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["models"]
    assert [model["scoring"] for model in found] == ["sigmoid", "softmax", "cosine"]
    assert all(set(model["figures"]) == {"Spearman", "Pearson"} for model in found)
    assert all(set(model["speed"]) == {"text"} for model in found)
