"""Text rules of each family, and rows of full length or of a bucket's, whatever the text."""

import msgspec
import numpy as np
import pytest

from siglip_edge.runtime.artifacts.checksums import FileRecord
from siglip_edge.runtime.artifacts.manifest import Buckets, TextTower
from siglip_edge.runtime.text.token_ids import canonicalize, padded, text_row

TEXT = TextTower(
    length=6,
    pad_id=0,
    suffix_ids=(1,),
    lowercase=True,
    tokenizer=FileRecord(path="tokenizer.json", size=0, sha256=""),
    artifacts={},
)
IN_BUCKETS = msgspec.structs.replace(
    TEXT, padding=Buckets(lengths=(2, 4, 6)), inputs=("token_embeddings", "attention_mask")
)


def ids_of(ids: list[int], spec: TextTower = TEXT) -> list[int]:
    """The token ids of the row."""
    return padded(ids, spec).row.arrays["token_ids"].tolist()


def test_a_row_is_padded_to_the_full_length():
    """SigLIP pools the last position: padding to the batch's longest would be a wrong vector."""
    row = padded([7, 8, 1], TEXT)
    assert ids_of([7, 8, 1]) == [7, 8, 1, 0, 0, 0]
    assert (row.tokens, row.truncated, row.row.cost) == (3, False, 6)
    assert set(row.row.arrays) == {"token_ids"}


def test_a_truncated_text_keeps_its_suffix():
    """`eos='sticky'`: the last position is EOS however long the text is."""
    row = padded([7, 8, 9, 10, 11, 12, 1], TEXT)
    assert ids_of([7, 8, 9, 10, 11, 12, 1]) == [7, 8, 9, 10, 11, 1]
    assert (row.tokens, row.truncated) == (6, True)


def test_a_truncated_text_keeps_its_prefix_and_the_whole_suffix():
    """As many ids as the tower wants before and after every text."""
    spec = msgspec.structs.replace(TEXT, prefix_ids=(5,), suffix_ids=(2, 3))
    assert ids_of([5, 7, 8, 9, 10, 11, 2, 3], spec) == [5, 7, 8, 9, 2, 3]
    assert ids_of([5, 7, 8, 9, 10, 11], msgspec.structs.replace(spec, length=5, suffix_ids=())) == [5, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("ids", "seen", "truncated"),
    [
        ([5, 7, 1], [5, 7, 1], False),
        ([5, 7, 1, 8, 1], [5, 7, 1], True),
        ([5, 1, 1], [5, 1], True),
        ([5, 7, 8, 9, 10, 11, 1], [5, 7, 8, 9, 10, 1], True),
        ([5, 7, 8, 9, 10, 1, 11, 1], [5, 7, 8, 9, 10, 1], True),
        ([5, 7, 8, 9, 10, 11, 12, 1, 3, 1], [5, 7, 8, 9, 10, 1], True),
        ([5, 7, 8], [5, 7, 8], False),
    ],
)
def test_a_tower_that_pools_the_first_end_sees_nothing_behind_it(ids, seen, truncated):
    """A text may spell the end token out; the answer says that its rest was left out."""
    row = padded(ids, msgspec.structs.replace(IN_BUCKETS, prefix_ids=(5,), pools_first_end=True))
    assert row.row.arrays["token_ids"][: row.tokens].tolist() == seen
    assert (row.row.arrays["attention_mask"].sum(), row.truncated) == (len(seen), truncated)


def test_an_end_token_inside_a_text_is_a_token_like_others_elsewhere():
    assert ids_of([7, 1, 8, 1]) == [7, 1, 8, 1, 0, 0]


def test_a_text_that_just_fits_is_not_truncated():
    row = padded([7, 8, 9, 10, 11, 1], TEXT)
    assert (ids_of([7, 8, 9, 10, 11, 1]), row.tokens, row.truncated) == ([7, 8, 9, 10, 11, 1], 6, False)


@pytest.mark.parametrize(("tokens", "length"), [(1, 2), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6), (9, 6)])
def test_a_row_has_the_smallest_bucket_that_holds_it(tokens, length):
    """Its mask tells tokens from padding, its cost is the bucket's length."""
    text = padded([7] * (tokens - 1) + [1], IN_BUCKETS)
    ids, mask = text.row.arrays["token_ids"], text.row.arrays["attention_mask"]
    assert (ids.shape, text.row.cost, text.truncated) == ((length,), length, tokens > 6)
    assert mask.tolist() == [1] * text.tokens + [0] * (length - text.tokens)
    assert not ids[mask == 0].any()
    assert ids.dtype == mask.dtype == np.int64


def test_rows_of_one_bucket_have_one_shape_key_and_rows_of_two_have_two():
    one, two, long = (padded([7] * tokens, IN_BUCKETS).row for tokens in (1, 2, 3))
    assert one.shape_key == two.shape_key != long.shape_key
    assert one.cost == two.cost < long.cost


def test_siglip2_lower_cases_and_siglip_also_drops_punctuation():
    """Each family's rule, as its training pipeline states it."""
    siglip = msgspec.structs.replace(TEXT, strip_punctuation=True)
    assert canonicalize("A Dog,  RUNNING!", TEXT) == "a dog,  running!"
    assert canonicalize("A Dog,  RUNNING!", siglip) == "a dog running"


def test_a_tower_without_rules_takes_a_text_as_it_is():
    assert canonicalize(" A Dog!", msgspec.structs.replace(TEXT, lowercase=False)) == " A Dog!"


def test_a_text_is_canonicalized_before_it_is_tokenized():
    row = text_row("BA", lambda text: [*text.encode(), 1], TEXT)
    assert row.row.arrays["token_ids"].tolist() == [98, 97, 1, 0, 0, 0]


def test_white_space_around_a_text_goes_where_the_tower_says_so():
    """As sentence-transformers does it, Unicode's included; what is inside stays."""
    assert canonicalize("\u3000 A  b\n", msgspec.structs.replace(TEXT, strip=True, lowercase=False)) == "A  b"
    assert canonicalize(" A ", TEXT) == " a "
