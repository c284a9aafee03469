"""Runs are compared on the same items: others are refused, or left out and counted where that was asked for."""

import pytest

from moe_cli.errors import ArtifactError, ExitCode
from moe_cli.stats.outcomes import evaluated_items, match_items
from tests.builders import answered


def run(name, *ids, **changes):
    return evaluated_items(name, [answered(id, "compliance", **changes) for id in ids])


def test_different_items_are_refused_and_counted_and_the_hint_names_both_ways_out():
    a, b = run("a", "0", "1", "2", "3", "4"), run("b", "2", "3", "4", "5")
    with pytest.raises(ArtifactError, match="not evaluated on the same items") as caught:
        match_items(["selective", "baseline"], [a, b], intersect=False)
    assert "2 are only in selective, 1 only in baseline" in caught.value.message
    assert caught.value.exit_code == ExitCode.ARTIFACT
    assert "--evaluation" in caught.value.hint and "--intersect" in caught.value.hint


def test_the_run_that_is_named_is_the_one_that_differs():
    with pytest.raises(ArtifactError, match="one and three were not"):
        match_items(["one", "two", "three"], [run("a", "1"), run("b", "1"), run("c", "2")], intersect=False)


def test_the_same_ids_with_other_items_are_refused():
    with pytest.raises(ArtifactError, match="1 of the 1 common ids hold another item"):
        match_items(["a", "b"], [run("a", "1", cluster="x"), run("b", "1", cluster="y")], intersect=False)


def test_an_item_answered_twice_is_refused():
    with pytest.raises(ArtifactError, match="2 answers to only 1 different items"):
        run("a", "1", "1")


def test_intersecting_keeps_what_is_the_same_in_all_runs_and_counts_the_rest_of_each():
    a, b = run("a", "1", "2", "3", "4"), {**run("b", "1", "2", "3"), **run("b", "4", cluster="other")}
    found = match_items(["a", "b", "c"], [a, b, run("c", "2", "3", "4", "9")], intersect=True)
    assert [list(items) for items in found.runs] == [["2", "3"]] * 3
    assert found.left_out == (2, 2, 2)


def test_equal_items_are_all_kept_and_nothing_is_left_out():
    found = match_items(["a", "b"], [run("a", "2", "1"), run("b", "1", "2")], intersect=True)
    assert (list(found.runs[1]), found.left_out) == (["1", "2"], None)


def test_runs_without_a_common_item_cannot_be_intersected():
    with pytest.raises(ArtifactError, match="a and b have no item in common"):
        match_items(["a", "b"], [run("a", "1"), run("b", "2")], intersect=True)
