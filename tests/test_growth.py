"""Work grows with the number of pairs or items: steps of Python are counted, never a time."""

from __future__ import annotations

import sys

import pytest

from moe_cli.compare.label_draw import draw_answers
from moe_cli.data.rows import DistinctNames
from tests.builders import answered
from tests.compare.scenarios import source
from tests.studies.growth_stages import STAGES, compare_runs, read_items, report

FEW, MANY = 150, 600
MOST = 5.2  # times the steps: n log n is 5.11
QUICK = [name for name in STAGES if "keyword" not in name]  # whose model of languages takes seconds


def num_steps(work):
    """How many instructions of Python the work takes; what C code does in one of them is not seen."""
    steps = 0

    def count(frame, event, _):
        nonlocal steps
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("stage", QUICK)
def test_four_times_the_input_takes_about_four_times_the_steps(stage, tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir(), many.mkdir()
    STAGES[stage](FEW, few)()  # what is made once
    assert num_steps(STAGES[stage](MANY, many)) <= MOST * num_steps(STAGES[stage](FEW, few))


@pytest.mark.parametrize("stage", [read_items, compare_runs, report])
def test_many_small_suites_are_as_much_work_as_few_large_ones(stage, tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir(), many.mkdir()
    stage(FEW, few, in_suite=2)()
    assert num_steps(stage(MANY, many, in_suite=2)) <= MOST * num_steps(stage(FEW, few, in_suite=2))


class HashedText(str):
    """A text whose hashes are steps of Python."""

    __slots__ = ()

    def __hash__(self):
        return str.__hash__(self)


def test_drawing_labels_looks_at_each_item_a_few_times():
    def steps(num):
        records = [
            [answered(HashedText(f"a/{place}"), label, cluster=f"goal {place}") for place in range(num)]
            for label in ("compliance", "full_refusal")
        ]
        runs = [source(name, of_run) for name, of_run in zip("AB", records, strict=True)]
        return num_steps(lambda: draw_answers(*runs, asked=("harmful",), num=50, seed=1, flip_factor=2.0, path="x"))

    assert steps(MANY) <= MOST * steps(FEW)


def test_names_are_told_apart_in_order_and_around_those_that_are_there():
    names = DistinctNames()
    given = [names.of(name) for name in ("x", "x~3", "x", "x", "y", "x", "x~2", "x~2")]
    assert given == ["x", "x~3", "x~2", "x~4", "y", "x~5", "x~2~2", "x~2~3"]
