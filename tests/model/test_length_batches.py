"""Rows of similar length together, within a budget of tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from moe_cli.model.token_rows import length_batches

LENGTHS = some.lists(some.integers(1, 300), max_size=60)


@given(LENGTHS, some.integers(1, 9), some.integers(1, 700) | some.none())
def test_every_row_is_in_one_batch_longest_first_and_no_batch_is_above_the_budget(lengths, max_rows, max_tokens):
    batches = length_batches(lengths, max_rows=max_rows, max_tokens=max_tokens)
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) <= max_rows
        assert max_tokens is None or len(batch) == 1 or len(batch) * lengths[batch[0]] <= max_tokens


@given(LENGTHS, some.integers(1, 9), some.integers(1, 700))
def test_a_batch_ends_only_where_the_next_row_would_not_fit(lengths, max_rows, max_tokens):
    batches = length_batches(lengths, max_rows=max_rows, max_tokens=max_tokens)
    for batch in batches[:-1]:
        assert len(batch) == max_rows or (len(batch) + 1) * lengths[batch[0]] > max_tokens


def test_rows_of_equal_length_keep_their_order():
    assert length_batches([2, 5, 2, 5, 2], max_rows=2, max_tokens=None) == [[1, 3], [0, 2], [4]]
