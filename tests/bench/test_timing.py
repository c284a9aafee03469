"""Figures from times that were made by hand."""

from __future__ import annotations

import pytest

from moe_cli.bench.arm_rows import Failure
from moe_cli.bench.stage import benchmark_rows_of, experts_dtype, names_of_rows, ratios_of, share_points
from moe_cli.bench.timing import Outcome, faster_floor, ratio_of, spread_of
from moe_cli.records import BenchmarkedModel, Spread
from tests.bench.small_benchmark import small_plan

MODEL = BenchmarkedModel(
    architecture="OlmoeForCausalLM",
    total_params=1000,
    expert_params=800,
    layers=(0, 1),
    num_experts=8,
    top_k=2,
    dtype="float32",
)


def outcome(name, *seconds, dtype="float32", **more):
    return Outcome(name, None, list(seconds), experts_dtype=dtype, **more)


def test_a_spread_has_median_quartiles_and_extremes():
    assert spread_of([4.0, 1.0, 2.0, 5.0, 3.0]) == Spread(median=3.0, lower=2.0, upper=4.0, least=1.0, most=5.0, n=5)
    assert spread_of([2.0]) == Spread(median=2.0, lower=2.0, upper=2.0, least=2.0, most=2.0, n=1)
    assert spread_of([]) is None


def test_ratios_are_of_the_same_repeat():
    # the second repeat is slow for both: 1/2, 6/10, 2/4 -> 0.5, 0.6, 0.5; the medians alone would give 2/4
    assert ratio_of([1.0, 6.0, 2.0], [2.0, 10.0, 4.0]).median == 0.5
    assert ratio_of([1.0, 6.0, 2.0], [2.0, 10.0, 4.0]).most == 0.6
    assert ratio_of([1.0], None) is None
    assert ratio_of([], [1.0]) is None
    with pytest.raises(ValueError, match="shorter"):
        ratio_of([1.0, 2.0], [1.0])


def test_the_faster_floor_is_the_one_with_the_smaller_median():
    assert faster_floor({"floor_library": [3.0, 1.0, 3.0], "floor_moe": [2.0, 2.0, 9.0]}) == "floor_moe"
    assert faster_floor({"floor_library": [3.0], "floor_moe": []}) == "floor_library"
    assert faster_floor({"selective": [1.0]}) is None


def test_rows_are_compared_with_full_training_and_the_faster_floor():
    measured = [
        outcome("floor_library", 1.0, 1.0),
        outcome("floor_moe", 2.0, 2.0),
        outcome("selective", 2.0, 2.0),
        outcome("full_grouped_mm", 4.0, 8.0),
    ]
    rows, floor = benchmark_rows_of(measured, tokens=16)
    selective = {row.name: row for row in rows}["selective"]
    assert floor == "floor_library"
    assert selective.to_full == spread_of([0.5, 0.25])
    assert selective.to_floor == spread_of([2.0, 2.0])
    assert selective.tokens_per_second == 8.0
    assert [(found.row, found.reference, found.ratio.median) for found in ratios_of(rows)] == [
        ("floor_moe", "floor_library", 2.0),
        ("selective", "floor_library", 2.0),
        ("selective", "floor_moe", 1.0),
        ("selective", "full_grouped_mm", 0.375),
    ]


def test_a_row_without_figures_has_none_of_them_and_is_no_reference():
    rows, floor = benchmark_rows_of(
        [outcome("selective", 1.0), outcome("full_grouped_mm", fault=Failure("out of memory", "needs 110.7 GB"))], 16
    )
    assert floor is None
    assert (rows[0].to_full, rows[0].to_floor) == (None, None)
    assert (rows[1].status, rows[1].note) == ("out of memory", "needs 110.7 GB")
    assert (rows[1].time, rows[1].tokens_per_second, rows[1].seconds, rows[1].bytes) == (None, None, (), None)


def test_the_sweep_takes_figures_that_are_there_already_and_adds_the_other_rows():
    plan = small_plan(arms="selective,full_grouped_mm", shares="0,1,3,8")
    assert names_of_rows(plan) == [
        ("selective", 3),
        ("full_grouped_mm", None),
        ("forward_moe", 3),
        ("selective_1", 1),
        ("selective_8", 8),
    ]
    rows, _ = benchmark_rows_of(
        [outcome(name, float(place + 1)) for place, (name, _) in enumerate(names_of_rows(plan))], 16
    )
    points = share_points(plan, MODEL, rows)
    assert [(point.selected, point.row) for point in points] == [
        (0, "forward_moe"),
        (1, "selective_1"),
        (3, "selective"),
        (8, "selective_8"),
    ]
    assert [point.share_of_parameters for point in points] == [0.0, 0.1, 0.3, 0.8]
    assert [point.to_full.median for point in points] == [1.5, 2.0, 0.5, 2.5]


def test_arms_that_computed_in_different_dtypes_are_not_compared():
    rows, _ = benchmark_rows_of([outcome("selective", 1.0), outcome("full_eager", 1.0, dtype=None)], 16)
    assert experts_dtype(rows) == "float32"
    rows, _ = benchmark_rows_of([outcome("selective", 1.0), outcome("full_grouped_mm", 1.0, dtype="bfloat16")], 16)
    with pytest.raises(AssertionError, match="different dtypes"):
        experts_dtype(rows)
