"""`siglip-edge evaluate`: model directories compared on labelled and captioned pictures."""

import json

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from siglip_edge.cli.evaluation.datasets import Dataset, load_dataset, open_image
from siglip_edge.cli.evaluation.measure import ranks, score
from siglip_edge.cli.main import main
from tests.tiny_model import write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return [write_model(home / name, name=name, seed=seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two pictures each, in sub-folders."""
    for label, colour in {"red-apple": "red", "green_pear": "green"}.items():
        (tmp_path / label).mkdir()
        for index in range(2):
            Image.new("RGB", (20 + index, 30), colour).save(tmp_path / label / f"{index}.png")
    return tmp_path


def evaluate(*arguments: object):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_sub_folders_are_classes(pictures):
    data = load_dataset(pictures)
    assert data.texts == ["green pear", "red apple"]
    assert data.relevant.tolist() == [[True, False]] * 2 + [[False, True]] * 2
    assert data.labelled


def test_a_table_of_labels_names_files_beside_it(pictures):
    (pictures / "labels.csv").write_text("file,slug,more\nred-apple/0.png,red-apple,x\ngreen_pear/1.png,a pear,y\n")
    data = load_dataset(pictures)
    assert data.texts == ["red apple", "a pear"]
    assert [path.name for path in data.images] == ["0.png", "1.png"]


def test_several_captions_may_belong_to_one_picture(pictures):
    (pictures / "pairs.tsv").write_text("file\tcaption\nred-apple/0.png\tan apple\nred-apple/0.png\tred\n")
    data = load_dataset(pictures / "pairs.tsv")
    assert data.relevant.tolist() == [[True, True]]
    assert not data.labelled


def test_ranks_count_what_scores_as_high_and_does_not_belong():
    """The best of several right answers counts; a tie counts against the model."""
    similarity = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.1], [0.1, 0.2, 0.3]], np.float32)
    relevant = np.array([[True, False, False], [True, False, False], [True, False, True]])
    assert ranks(similarity, relevant).tolist() == [1, 2, 1]


def test_recall_is_counted_both_ways():
    """Twelve pairs, one picture hidden behind all others: each way sees it differently."""
    similarity = np.eye(12, dtype=np.float32)
    similarity[:, 0] = 2.0
    data = Dataset(images=[], texts=[], relevant=np.eye(12, dtype=np.bool_), labelled=False)
    scores = score(similarity, data)
    assert scores["image→text R@1"] == pytest.approx(1 / 12, abs=1e-4)
    assert scores["image→text R@5"] == 1.0
    assert scores["text→image R@1"] == pytest.approx(11 / 12, abs=1e-4)


def test_models_are_compared_in_one_table(models, pictures):
    """A line a model; the figures are shares, milliseconds and megabytes."""
    result = evaluate(*models, "--data", pictures)
    assert result.exit_code == 0, result.output
    header, first, second = (line.split() for line in result.stdout.splitlines())
    assert header[:4] == ["model", "precision", "top-1", "top-5"]
    assert (first[0], second[0]) == ("one", "two")


def test_programs_get_json(models, pictures):
    (pictures / "pairs.csv").write_text("file,caption\nred-apple/0.png,red\ngreen_pear/0.png,green\n")
    (measured,) = json.loads(evaluate(models[0], "--data", pictures / "pairs.csv", "--json").stdout)
    assert measured["precision"] == "int8"
    assert measured["scores"]["text→image R@5"] == 1.0
    assert measured["image_ms"] > 0 < measured["size_mb"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("a,b\n1,2\n", "needs the columns `file` and `caption`"),
        ("file,caption\n", "needs a header and at least one row"),
        ("file,caption\nnowhere.png,red\nlost.png,blue\n", "nowhere.png: no such picture, and 1 more"),
        ("file,caption\n\0,red\n", "no such picture"),
        ("caption,more,file\nred,pairs.csv\n", "the row 'red,pairs.csv' has fewer than 3 columns"),
        ("file,caption\npairs.csv,red\n", "pairs.csv: cannot be read as a picture"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(models, tmp_path, table, sentence):
    (tmp_path / "pairs.csv").write_text(table)
    result = evaluate(models[0], "--data", tmp_path / "pairs.csv")
    assert result.exit_code == 1
    assert sentence in result.output


def test_a_table_may_begin_with_a_byte_order_mark(pictures):
    """As spreadsheets save it."""
    (pictures / "pairs.csv").write_text("file,caption\nred-apple/0.png,an apple\n", encoding="utf-8-sig")
    assert load_dataset(pictures / "pairs.csv").texts == ["an apple"]


def test_a_picture_that_is_damaged_is_named(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:200])
    with pytest.raises(click.ClickException, match=r"half\.png: cannot be read as a picture"):
        open_image(tmp_path / "half.png")


def test_a_plot_without_matplotlib_is_refused_at_once(models, pictures, monkeypatch):
    """Before the models are measured."""
    monkeypatch.setattr("siglip_edge.cli.evaluation.evaluate.find_spec", lambda name: None)
    result = evaluate(models[0], "--data", pictures, "--plot", pictures / "a.svg")
    assert (result.exit_code, result.output) == (
        1, "Error: matplotlib is not installed; pip install 'siglip-edge[export]'\n",
    )  # fmt: skip


def test_a_plot_is_drawn(models, pictures):
    result = evaluate(models[0], "--data", pictures, "--plot", pictures / "a.svg")
    assert result.exit_code == 0, result.output
    assert (pictures / "a.svg").read_text().startswith("<?xml")


def test_every_model_is_planned_before_the_first_is_measured(models, pictures):
    """The second model is none, so nothing of the first is printed."""
    result = evaluate(models[0], pictures, "--data", pictures, "--precision", "int8")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_a_folder_without_classes_is_refused(models, tmp_path):
    result = evaluate(models[0], "--data", tmp_path)
    assert result.exit_code == 1
    assert "neither labels.csv nor a sub-folder" in result.output
