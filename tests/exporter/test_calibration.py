"""Rows of texts: longer ones where a tower takes them, cut to their tokens where ranges are taken."""

import msgspec
import numpy as np

from siglip_edge.exporter.calibration import ROWS_OF_A_LENGTH, text_rows, without_padding
from siglip_edge.runtime.artifacts.manifest import Buckets
from siglip_edge.runtime.rows import Row
from tests.runtime.text.test_token_ids import TEXT

LONG = msgspec.structs.replace(
    TEXT, length=128, padding=Buckets(lengths=(16, 64, 128)), inputs=("token_embeddings", "attention_mask")
)
TEXTS = ["one two three", "four", "five six seven eight nine"]


def words(text: str) -> list[int]:
    return [*range(2, 2 + len(text.split())), 1]


def tokens(row: Row) -> int:
    return int(row.arrays["attention_mask"].sum())


def test_texts_are_joined_to_every_length_that_none_of_them_has():
    """The same ones each time; those of the tower's full length are cut as served ones are."""
    rows = text_rows(TEXTS, words, LONG)
    assert len(rows) == len(TEXTS) + 3 * ROWS_OF_A_LENGTH
    longer = [tokens(row) for row in rows[len(TEXTS) :]]
    for index, target in enumerate((32, 64, 128)):
        of_a_length = longer[index * ROWS_OF_A_LENGTH : (index + 1) * ROWS_OF_A_LENGTH]
        assert all(0.6 * target <= length <= min(1.3 * target, 128) for length in of_a_length)
    again = text_rows(TEXTS, words, LONG)
    assert all(
        np.array_equal(left.arrays["token_ids"], right.arrays["token_ids"])
        for left, right in zip(rows, again, strict=True)
    )


def test_texts_that_are_long_already_are_left_as_they_are():
    assert len(text_rows([*TEXTS, "word " * 130], words, LONG)) == 4


def test_rows_of_one_length_are_left_as_they_are():
    """SigLIP's: whatever the text, its tower sees the full length."""
    rows = text_rows(TEXTS, words, TEXT)
    assert len(rows) == 3
    assert without_padding(rows[0]) is rows[0]


def test_a_row_is_cut_to_its_tokens():
    cut = without_padding(text_rows(TEXTS, words, LONG)[1])
    assert (cut.cost, cut.arrays["token_ids"].tolist(), cut.arrays["attention_mask"].tolist()) == (2, [2, 1], [1, 1])
