"""Data sets of `evaluate`: folders and tables of pictures and of texts."""

import json
from pathlib import Path

import click
import pytest
from PIL import Image

from siglip_edge.cli.evaluation.datasets import Kind, load_dataset


@pytest.fixture
def pictures(tmp_path):
    """Two classes of two pictures each, in sub-folders."""
    for label, colour in {"red-apple": "red", "green_pear": "green"}.items():
        (tmp_path / label).mkdir()
        for index in range(2):
            Image.new("RGB", (20 + index, 30), colour).save(tmp_path / label / f"{index}.png")
    return tmp_path


@pytest.fixture
def beir(tmp_path):
    """Two queries, three documents, graded judgements of one split."""
    (tmp_path / "qrels").mkdir()
    lines = {
        "queries.jsonl": [
            {"_id": "q1", "text": "fruit"},
            {"_id": "q2", "text": "car"},
            {"_id": "q3", "text": "not judged"},
        ],
        "corpus.jsonl": [
            {"_id": "d1", "title": "Apple", "text": "grows on trees"},
            {"_id": "d2", "title": "", "text": "has wheels"},
            {"_id": "q1", "text": "fruit"},
        ],
    }
    for name, objects in lines.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, objects)))
    (tmp_path / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n")
    return tmp_path


def test_sub_folders_are_classes(pictures):
    data = load_dataset(pictures)
    assert data.kind is Kind.LABELS
    assert data.right == ["green pear", "red apple"]
    assert data.pairs.tolist() == [[0, 0], [1, 0], [2, 1], [3, 1]]
    assert str(data) == "4 pictures, 2 labels"


def test_a_table_of_labels_names_files_beside_it(pictures):
    (pictures / "labels.csv").write_text("file,slug,more\nred-apple/0.png,red-apple,x\ngreen_pear/1.png,a pear,y\n")
    data = load_dataset(pictures)
    assert data.right == ["red apple", "a pear"]
    assert [Path(file).name for file in data.left] == ["0.png", "1.png"]


def test_a_table_of_labels_may_have_any_name(pictures):
    (pictures / "mine.tsv").write_text("label\tpath\nan apple\tred-apple/0.png\n")
    data = load_dataset(pictures / "mine.tsv")
    assert (data.kind, data.right) == (Kind.LABELS, ["an apple"])


def test_several_captions_may_belong_to_one_picture(pictures):
    (pictures / "pairs.tsv").write_text("file\tcaption\nred-apple/0.png\tan apple\nred-apple/0.png\tred\n")
    data = load_dataset(pictures / "pairs.tsv")
    assert data.kind is Kind.CAPTIONS
    assert data.pairs.tolist() == [[0, 0], [0, 1]]


def test_a_table_may_begin_with_a_byte_order_mark(pictures):
    """As spreadsheets save it."""
    (pictures / "pairs.csv").write_text("file,caption\nred-apple/0.png,an apple\n", encoding="utf-8-sig")
    assert load_dataset(pictures / "pairs.csv").right == ["an apple"]


@pytest.mark.parametrize("columns", ["sentence1,sentence2,score", "score,text1,text2"])
def test_sentence_pairs_keep_sentences_that_repeat(tmp_path, columns):
    """The names of sentence-transformers' data sets, or text1 and text2, in any order."""
    cells = {"sentence1": "a cat", "text1": "a cat", "sentence2": "a dog", "text2": "a dog"}
    rows = [
        ",".join(str(score) if name == "score" else cells[name] for name in columns.split(",")) for score in (1, 2.5)
    ]
    (tmp_path / "sts.csv").write_text("\n".join([columns, *rows]))
    data = load_dataset(tmp_path / "sts.csv")
    assert data.kind is Kind.SENTENCES
    assert (data.left, data.right) == (["a cat", "a cat"], ["a dog", "a dog"])
    assert data.grades.tolist() == [1, 2.5]


@pytest.mark.parametrize("columns", ["query,document", "anchor,positive"])
def test_a_table_of_queries_shares_its_documents(tmp_path, columns):
    (tmp_path / "pairs.csv").write_text(f"{columns}\nfruit,an apple\ncar,has wheels\nbus,has wheels\n")
    data = load_dataset(tmp_path / "pairs.csv")
    assert str(data) == "3 queries, 2 documents"
    assert data.pairs.tolist() == [[0, 0], [1, 1], [2, 1]]


def test_a_beir_folder_has_graded_judgements(beir):
    """Only judged queries count; a document is title, space, text; the query's own document is known."""
    data = load_dataset(beir)
    assert (data.left, data.right) == (["fruit", "car"], ["Apple grows on trees", "has wheels", "fruit"])
    assert data.pairs.tolist() == [[0, 0], [0, 1], [1, 1]]
    assert data.grades.tolist() == [2, 0, 1]
    assert data.own_document == {0: 2}


def test_one_split_of_a_beir_folder_can_be_given(beir):
    (beir / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\nq1\td1\t0\n")
    data = load_dataset(beir / "qrels/dev.tsv")
    assert data.left == ["car"]  # the other query has no relevant document


def test_pictures_can_be_left_out(pictures):
    """The others keep their labels."""
    data = load_dataset(pictures).without([0, 2])
    assert [Path(file).parent.name for file in data.left] == ["green_pear", "red-apple"]
    assert data.pairs.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("a,b\n1,2\n", "needs the columns `file` and `caption`"),
        ("file,caption\n", "needs a header and at least one row"),
        ("file,caption\nnowhere.png,red\nlost.png,blue\n", "nowhere.png: no such picture, and 1 more"),
        ("file,caption\n\0,red\n", "no such picture"),
        ("caption,more,file\nred,pairs.csv\n", "the row 'red,pairs.csv' has fewer than 3 columns"),
        ("file,caption\npairs.csv, \n", "row 2: `caption` is empty"),
        ("sentence1,sentence2,score\na,b,high\n", "row 2: `score` is 'high', which is no number"),
        ("sentence1,sentence2,score\na,b,nan\n", "which is no number"),
        ("sentence1,sentence2,score\na,b,1\nc,d,1\n", "every score is 1; a correlation needs different scores"),
        ("query,document,score\na,b,0\n", "no score is above 0"),
        ('query,document\na,"b\nc,d\n', "cannot be read as a table"),
        ("query-id,corpus-id,score\nq1,d1,1\n", "queries.jsonl: cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(tmp_path, table, sentence):
    (tmp_path / "pairs.csv").write_text(table)
    with pytest.raises(click.ClickException) as refused:
        load_dataset(tmp_path / "pairs.csv")
    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        ("queries.jsonl", "{", "line 1 is no JSON object"),
        ("queries.jsonl", '{"_id": "q1"}', "line 1: `text` is missing or is no text"),
        ("queries.jsonl", '{"_id": "q9", "text": "x"}', "'q1' is not in queries.jsonl"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}', "'d2' is not in corpus.jsonl"),
    ],
)
def test_a_beir_folder_that_cannot_be_used_is_refused_by_name(beir, file, line, sentence):
    (beir / file).write_text(line)
    with pytest.raises(click.ClickException) as refused:
        load_dataset(beir)
    assert sentence in refused.value.message


def test_a_beir_folder_without_a_test_split_asks_which(beir):
    (beir / "qrels/test.tsv").rename(beir / "qrels/dev.tsv")
    (beir / "qrels/train.tsv").write_text("")
    with pytest.raises(click.ClickException, match=r"it has dev\.tsv, train\.tsv"):
        load_dataset(beir)


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(click.ClickException, match=r"neither labels\.csv nor a sub-folder"):
        load_dataset(tmp_path)
