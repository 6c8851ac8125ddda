"""`siglip-edge evaluate`: models side by side on pictures and on texts."""

import json
import re

import pytest
from click.testing import CliRunner
from PIL import Image

from siglip_edge.cli.main import main
from siglip_edge.runtime.artifacts.manifest import Precision
from tests.tiny_model import add_precision, collapse, write_model
from tests.tiny_text_model import write_clip, write_text_encoder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Of three families: calibrated scores; scores that compare candidates; texts only."""
    home = tmp_path_factory.mktemp("models")
    encoder = write_text_encoder(home / "three", prompts={"query": "find: ", "passage": "doc: ", "STS": "same? "})
    return [write_model(home / "one", name="one"), write_clip(home / "two"), encoder]


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two pictures each, and captions for two of them."""
    folder = tmp_path / "pictures"
    for label, colour in {"red-apple": "red", "green_pear": "green"}.items():
        (folder / label).mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (20 + index, 30), colour).save(folder / label / f"{index}.png")
    (folder / "pairs.csv").write_text("file,caption\nred-apple/0.png,red\ngreen_pear/0.png,green\n")
    return folder


@pytest.fixture
def sentences(tmp_path):
    rows = [f"text {n},other text {n * n},{n}" for n in range(6)]
    (tmp_path / "sts.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]))
    return tmp_path / "sts.csv"


def evaluate(*arguments: object, rounds: int = 0):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--rounds", str(rounds), "--seconds", "0.01"])


def figures(*arguments: object, rounds: int = 0):
    """The JSON of a comparison whose status is 0."""
    result = evaluate(*arguments, "--json", "-", rounds=rounds)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_models_stand_side_by_side(models, pictures):
    """A column per model, a row per figure, a line per two models."""
    result = evaluate(*models[:2], "--data", pictures)
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["one", "two"]
    assert re.fullmatch(r"top-1 +\S+ % \(\S+ to \S+\)  +\S+ % \(\S+ to \S+\)", rows[0])
    assert any(row.startswith("one, two") for row in rows)
    assert "one: calibrated scores; expected calibration error" in result.stdout
    assert "two: its softmax scores compare the texts of one picture and are no probability" in result.stdout


@pytest.mark.slow
def test_programs_and_people_get_the_same_figures(models, pictures, tmp_path):
    """JSON has every figure; the page stands alone and has the reliability table of the calibrated model."""
    page, file = tmp_path / "report.html", tmp_path / "report.json"
    result = evaluate(*models[:2], "--data", pictures, "--report", page, "--json", file, rounds=2)
    assert result.exit_code == 0, result.output
    comparison, html = json.loads(file.read_text()), page.read_text(encoding="utf-8")
    one, two = comparison["models"]
    assert (one["precision"], one["scoring"], two["scoring"]) == ("int8", "sigmoid", "softmax")
    assert one["resident_mb"] <= one["peak_mb"]
    assert one["files_mb"] > 0 < one["load_ms"]
    assert {tower: speed["ratio"] for tower, speed in one["speed"].items()} == {"vision": 1.0, "text": 1.0}
    assert two["speed"]["text"]["ratio_error"] > 0
    assert len(two["speed"]["vision"]["rows_per_s"]) == 2
    assert one["classes"]["red apple"]["pictures"] == 2
    for words in ("top-1", "<svg", "one: every pair", "green pear", "Wilson"):
        assert words in html
    assert "two: every pair" not in html
    assert not re.search(r"(src|href)=[\"'](?!#)", html.replace("xlink:href", "href"))


def test_captions_are_found_both_ways(models, pictures):
    (one,) = figures(models[0], "--data", pictures / "pairs.csv")["models"]
    assert one["figures"]["text→image R@5"]["value"] == 1.0
    assert one["template"] is None


def test_class_names_stand_in_each_models_own_template(models, pictures):
    """Unless one is given for all."""
    found = figures(*models[:2], "--data", pictures)
    assert [model["template"] for model in found["models"]] == ["This is a photo of {}.", "a photo of a {}."]
    (one,) = figures(models[0], "--data", pictures, "--template", "{}")["models"]
    assert one["template"] == "{}"


def test_a_model_that_fails_leaves_the_others_their_figures(models, pictures, tmp_path):
    """The status and a sentence say so: no model, no vision tower, wrong embeddings, a missing file."""
    wrong, partial = (write_model(tmp_path / name, name=name, seed=5) for name in ("wrong", "partial"))
    collapse(wrong, Precision.INT8)
    (partial / "tokenizer.json").unlink()
    result = evaluate(models[0], pictures, models[2], wrong, partial, "--data", pictures, "--json", "-")
    assert result.exit_code == 1
    one, none, text_only, collapsed, incomplete = json.loads(result.stdout)["models"]
    assert one["error"] is None
    assert one["figures"]["top-1"]
    assert "it has no manifest.json; make one elsewhere: siglip-edge export" in none["error"]
    assert text_only["error"].startswith("three: this model has no vision tower, and the data are pictures and texts; ")
    assert "Error: three: this model" in result.stderr
    assert "cosine 0.0000" in collapsed["error"]
    assert not collapsed["figures"]
    assert "tokenizer.json" in incomplete["error"]


def test_precisions_of_one_model_are_compared(models, pictures, tmp_path):
    """All of them when one model is named; equal weights give equal answers."""
    model = add_precision(write_model(tmp_path / "model"), Precision.FP32)
    found = figures(model, "--data", pictures)
    assert [one["label"] for one in found["models"]] == ["tiny fp32", "tiny int8"]
    (agreement,) = found["agreements"]
    assert (agreement["same"]["value"], agreement["only_first_right"], agreement["p_value"]) == (1.0, 0, 1.0)
    assert len(figures(model, "--data", pictures, "--precision", "int8")["models"]) == 1
    assert evaluate(model, "--data", pictures, "--precision", "int9").exit_code == 2


def test_models_of_one_name_are_told_by_their_directories(models, pictures, tmp_path):
    same = write_model(tmp_path / "same", name="one", seed=7)
    labels = [one["label"] for one in figures(models[0], same, "--data", pictures)["models"]]
    assert labels == [f"one {models[0]}", f"one {same}"]


@pytest.mark.slow
def test_sentence_pairs_are_for_every_model(models, sentences):
    """Text towers alone are loaded; the models' cosines are compared too."""
    found = figures(*models, "--data", sentences, rounds=1)
    for model in found["models"]:
        assert -1 <= model["figures"]["Spearman"]["value"] <= 1
        assert list(model["speed"]) == ["text"]
    assert len(found["agreements"]) == 3


def test_the_same_weights_give_the_same_cosines(models, sentences, tmp_path):
    copy = write_model(tmp_path / "copy", name="copy", seed=0)
    (agreement,) = figures(models[0], copy, "--data", sentences)["agreements"]
    assert agreement["same"]["value"] == pytest.approx(1.0)


def test_queries_and_documents_get_their_prompts(models, tmp_path):
    """Those that the model has; a document that is longer than the tower is reported."""
    (tmp_path / "pairs.csv").write_text("query,document\na,b\nc,a text that is longer than sixteen tokens\n")
    plain, prompted = figures(models[0], models[2], "--data", tmp_path / "pairs.csv")["models"]
    assert prompted["prompts"] == ["find: ", "doc: "]
    assert plain["prompts"] == []
    assert prompted["truncated_texts"] == plain["truncated_texts"] == 1
    assert set(prompted["figures"]) == {"accuracy@1", "recall@10", "MRR@10", "nDCG@10"}


def test_a_text_without_a_prompt_of_its_own_gets_the_default_prompt(models, sentences, tmp_path):
    """As the server embeds it."""
    usual = write_text_encoder(tmp_path / "usual", prompts={"always": "text: "}, default_prompt="always")
    found = figures(models[2], usual, "--data", sentences)
    assert [model["prompts"] for model in found["models"]] == [["same? "], ["text: "]]


def test_a_picture_that_is_damaged_is_left_out_and_named(models, pictures):
    """The others are evaluated; when all are damaged there is nothing to compare."""
    damaged = pictures / "red-apple/0.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    (one,) = figures(models[0], "--data", pictures)["models"]
    assert list(one["left_out"]) == [str(damaged)]
    assert one["classes"]["red apple"]["pictures"] == 1
    for file in pictures.glob("*/*.png"):
        file.write_bytes(b"no picture")
    result = evaluate(models[0], "--data", pictures)
    assert result.exit_code == 1
    assert "cannot be read as a picture" in result.output


def test_a_plot_is_drawn(models, pictures):
    assert evaluate(models[0], "--data", pictures, "--plot", pictures / "a.svg").exit_code == 0
    assert (pictures / "a.svg").read_text().startswith("<?xml")


def test_a_plot_without_matplotlib_is_refused_at_once(models, pictures, monkeypatch):
    """Before the models are measured."""
    monkeypatch.setattr("siglip_edge.cli.evaluation.evaluate.find_spec", lambda name: None)
    result = evaluate(models[0], "--data", pictures, "--plot", pictures / "a.svg")
    assert (result.exit_code, result.output) == (
        1, "Error: matplotlib is not installed; pip install 'siglip-edge[export]'\n",
    )  # fmt: skip


def test_a_page_without_matplotlib_says_what_is_missing(models, pictures, monkeypatch):
    """A serving environment has no matplotlib; the tables are on the page."""
    for module in ("evaluate", "report"):
        monkeypatch.setattr(f"siglip_edge.cli.evaluation.{module}.find_spec", lambda name: None)
    result = evaluate(models[0], "--data", pictures, "--report", pictures / "a.html")
    assert "without drawings, because matplotlib is not installed" in result.output
    assert "<svg" not in (pictures / "a.html").read_text()


@pytest.mark.parametrize(
    ("given", "sentence"), [("64", "none of the models is a NaFlex model"), ("64,many", "is no list of numbers")]
)
def test_a_number_of_patches_is_for_models_that_have_the_choice(models, pictures, given, sentence):
    result = evaluate(*models, "--data", pictures, "--max-patches", given)
    assert result.exit_code == 2
    assert sentence in result.output


def test_what_failed_is_said_once_and_has_no_column(models, pictures, tmp_path):
    """On the terminal; the reason has the command that makes the model."""
    result = evaluate(models[0], tmp_path / "nowhere", "--data", pictures)
    assert result.exit_code == 1
    assert result.output.count("there is no model at") == 1
    assert f"nowhere; make one: siglip-edge export CHECKPOINT -o {tmp_path} --name nowhere" in result.stderr
    assert result.stdout.splitlines()[0].split() == ["one"]
