"""What is drawn to be labelled: as many from every suite, with known chances, and without a trace of the arms."""

from dataclasses import replace

import pytest

from moe_cli.compare.label_draw import draw_answers
from moe_cli.compare.pair_labels import answer_code
from moe_cli.errors import UsageError
from moe_cli.records import Message
from tests.compare.scenarios import answers, harmless, source


def told(records, words):
    return [
        replace(
            record,
            answer=f"{words} {place}",
            item=replace(record.item, messages=(Message(role="user", content=f"zorp {record.item.id}"),)),
        )
        for place, record in enumerate(records)
    ]


def runs(num=400, small=100, equal=0):
    """Two runs; the first `equal` answers are the same."""
    suites = [*answers("attacked", num, 20), *answers("small", small, 20)]
    other = [*answers("attacked", num, 60), *answers("small", small, 20)]
    a, b = told(suites, "one"), told(other, "two")
    return source("A", a + told(harmless(200), "x")), source("B", a[:equal] + b[equal:] + told(harmless(200, 20), "y"))


def draw(a, b, **options):
    values = {"asked": ("harmful",), "num": 150, "seed": 1, "path": "labels.csv"}
    return draw_answers(a, b, **(values | options))


def test_every_suite_gives_as_many_items_and_each_item_both_answers():
    found = draw(*runs())
    assert [(one.suite, one.drawn, one.items) for one in found.summary.strata] == [
        ("attacked", 75, 400),
        ("small", 75, 100),
    ]
    assert (found.summary.items, found.summary.answers, len(found.rows)) == (150, 300, 300)
    assert {row.probability for row in found.rows if row.item.startswith("small")} == {0.75}
    ids = [row.item for row in found.rows]
    assert all(ids.count(id) == 2 for id in ids)


def test_no_row_says_whose_answer_it_is_and_the_order_neither():
    a, b = runs()
    found = draw(a, b)
    own = {answer_code(record) for record in a.records}
    firsts = [row.run in own for row in found.rows]
    assert 0.3 < sum(firsts[:100]) / 100 < 0.7
    for row in found.rows:
        assert row.label is None
        assert not {"A", "B"} & {row.run, row.draw, row.item, row.asked}
        assert row.run[0] == "r" and not row.run[1:].isalpha()


def test_the_same_seed_draws_the_same_rows_and_another_one_others():
    a, b = runs()
    assert draw(a, b) == draw(a, b)
    assert {row.item for row in draw(a, b).rows} != {row.item for row in draw(a, b, seed=2).rows}


def test_an_answer_that_both_gave_is_labelled_once():
    found = draw(*runs(num=60, small=60, equal=120), num=100)
    assert (found.summary.items, found.summary.answers) == (100, 100)


def test_flips_are_drawn_more_often_and_their_probability_says_so():
    found = draw(*runs(), flip_factor=4)
    by_kind = {(one.suite, one.changed): one for one in found.summary.strata}
    changed, same = by_kind["attacked", True], by_kind["attacked", False]
    assert changed.items == 40 and changed.probability > 2 * same.probability
    assert changed.drawn + same.drawn == 75
    assert ("small", True) not in by_kind and by_kind["small", False].drawn == 75


def test_over_refusal_is_asked_of_harmless_questions_alone():
    found = draw(*runs(), asked=("harmful", "refused"))
    assert {row.asked for row in found.rows if row.item.startswith("benign")} == {"refused"}
    assert {row.asked for row in found.rows if not row.item.startswith("benign")} == {"harmful"}


def test_fewer_than_fifty_scored_items_are_refused():
    with pytest.raises(UsageError, match="40 items of attack success are scored in both runs"):
        draw(*runs(num=20, small=20))
