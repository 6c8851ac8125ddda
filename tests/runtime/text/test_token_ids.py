"""Every family's text rule, and rows of full length whatever the text."""

from siglip_edge.runtime.artifacts.manifest import FileRecord, TextSpec
from siglip_edge.runtime.text.token_ids import canonicalize, pad

TEXT = TextSpec(
    length=6,
    pad_id=0,
    eos_id=1,
    lowercase=True,
    strip_punctuation=False,
    tokenizer=FileRecord(path="tokenizer.json", size=0, sha256=""),
)


def test_a_row_is_padded_to_the_full_length():
    """SigLIP pools the last position: padding to the batch's longest would be a wrong vector."""
    row, tokens, truncated = pad([7, 8, 1], TEXT)
    assert row.tolist() == [7, 8, 1, 0, 0, 0]
    assert (tokens, truncated) == (3, False)


def test_a_truncated_text_keeps_its_eos():
    """`eos='sticky'`: the last position is EOS however long the text is."""
    row, tokens, truncated = pad([7, 8, 9, 10, 11, 12, 1], TEXT)
    assert row.tolist() == [7, 8, 9, 10, 11, 1]
    assert (tokens, truncated) == (6, True)


def test_a_text_that_just_fits_is_not_truncated():
    row, tokens, truncated = pad([7, 8, 9, 10, 11, 1], TEXT)
    assert (row.tolist(), tokens, truncated) == ([7, 8, 9, 10, 11, 1], 6, False)


def test_siglip2_lower_cases_and_siglip_also_drops_punctuation():
    """Each family's rule, as its training pipeline states it."""
    siglip = TextSpec(**{field: getattr(TEXT, field) for field in TEXT.__struct_fields__} | {"strip_punctuation": True})
    assert canonicalize("A Dog,  RUNNING!", TEXT) == "a dog,  running!"
    assert canonicalize("A Dog,  RUNNING!", siglip) == "a dog running"
