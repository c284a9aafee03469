"""The largest values, with exact ties, in any number of rows at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_cli.prepare.ranking import largest

VALUES = st.one_of(st.sampled_from([0.0, 0.1, 0.2, float("nan")]), st.floats(-1, 1))


def by_sorting(values, most, above):
    """Ties by place, one value after the other."""
    order = sorted((place for place, value in enumerate(values) if value > above), key=lambda i: (-values[i], i))
    return [place in order[:most] for place in range(len(values))]


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=12), st.integers(1, 13), st.sampled_from([-2.0, 0.0, 0.1]))
def test_the_largest_are_those_that_sorting_finds_with_ties_by_place(values, most, above):
    assert largest(np.array(values), most, above).tolist() == by_sorting(values, most, above)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=5, max_size=5), min_size=1, max_size=6), st.integers(1, 5))
def test_many_rows_at_once_are_each_row_alone(rows, most):
    together = largest(np.array(rows), most, 0.0)
    assert together.tolist() == [by_sorting(row, most, 0.0) for row in rows]


def test_nothing_is_taken_where_nothing_is_wanted():
    assert not largest(np.array([0.5, 0.2]), 0).any()
