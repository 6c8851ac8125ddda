"""Rows of one shape share runs, within what the plan allows; which rows come together changes nothing but the time."""

import numpy as np
import pytest

from siglip_edge.runtime.execution.batches import batches
from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.runtime.rows import Row, stack


def row(length: int, value: int = 0) -> Row:
    """A row of so many tokens."""
    return Row({"token_ids": np.full(length, value), "attention_mask": np.ones(length, np.int64)}, cost=length)


def test_the_shape_key_tells_names_and_shapes():
    """Values do not matter, neither does the cost."""
    assert row(4, 1).shape_key == row(4, 2).shape_key
    assert row(4).shape_key != row(5).shape_key
    assert row(4).shape_key != Row({"token_ids": np.zeros(4)}, cost=4).shape_key


def test_a_batch_holds_one_shape_key():
    """Rows keep their order within a shape, and each is in exactly one batch."""
    rows = [row(length) for length in (4, 8, 4, 8, 16, 4)]
    assert list(batches(rows, BatchLimit())) == [[0, 2, 5], [1, 3], [4]]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (BatchLimit(rows=2), [[0, 1], [2, 3], [4]]),
        (BatchLimit(cost=24), [[0, 1, 2], [3, 4]]),
        (BatchLimit(rows=2, cost=24), [[0, 1], [2, 3], [4]]),
        (BatchLimit(rows=4, cost=16), [[0, 1], [2, 3], [4]]),
        (BatchLimit(cost=8), [[0], [1], [2], [3], [4]]),
        (BatchLimit(cost=1), [[0], [1], [2], [3], [4]]),  # a single row may have more
        (BatchLimit(), [[0, 1, 2, 3, 4]]),
    ],
)
def test_a_batch_stays_within_rows_and_cost(limit, expected):
    assert list(batches([row(8)] * 5, limit)) == expected


def test_no_rows_are_no_batch():
    assert list(batches([], BatchLimit())) == []


def test_a_stack_has_every_array_with_the_batch_axis_first():
    batch = stack([row(4, 1), row(4, 2)])
    assert {name: array.shape for name, array in batch.items()} == {"token_ids": (2, 4), "attention_mask": (2, 4)}
    assert batch["token_ids"][:, 0].tolist() == [1, 2]
