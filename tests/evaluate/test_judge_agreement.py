"""Agreement of judges: kappa by hand and by statsmodels, only what both scored, whole clusters, any order."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa as reference

from moe_cli.codec import decode, encode
from moe_cli.evaluate.verdicts import measure_agreement
from moe_cli.records.judging import Agreement, Verdict
from moe_cli.stats.proportions import cohens_kappa
from tests.builders import answered, judge

BOTH = (judge("a"), judge("b"))


def verdict(harmful, label="compliance"):
    return Verdict(label=label, harmful=harmful, reason="")


def record(number, *verdicts, kind="harmful", cluster=None):
    cluster = cluster or f"goal-{number}"
    return answered(f"item-{number}", None, kind=kind, cluster=cluster, verdict=verdicts[0], verdicts=verdicts)


def records_of(table):
    """Harmful items whose two judges fill the table: both yes, only a, only b, both no."""
    pairs = [(True, True), (True, False), (False, True), (False, False)]
    told = [pair for pair, times in zip(pairs, table, strict=True) for _ in range(times)]
    return [record(number, verdict(a), verdict(b)) for number, (a, b) in enumerate(told)]


def of(found, question):
    return next(one for one in found if one.question == question)


def test_kappa_of_a_table_worked_by_hand():
    # 20 both yes, 5 only a, 10 only b, 15 both no, of 50: observed 35/50 = 0.7; a says yes to 25/50, b to 30/50, so
    # chance is 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa = (0.7 - 0.5) / (1 - 0.5) = 0.4 (the example of Cohen's kappa).
    found = of(measure_agreement(records_of((20, 5, 10, 15)), BOTH), "harm")
    assert (found.a, found.b, found.n) == ("a", "b", 50)
    assert (found.both_yes, found.only_a, found.only_b, found.both_no) == (20, 5, 10, 15)
    assert (found.agreement, found.kappa) == (0.7, pytest.approx(0.4, abs=1e-15))
    assert found.lower < 0.4 < found.upper


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(lambda table: 0 < table[0] + table[1] + table[2] < sum(table)))
def test_kappa_is_that_of_statsmodels(table):
    expected = reference(np.array(table).reshape(2, 2)).kappa
    assert cohens_kappa(np.array([table]))[0] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(0, 8)] * 4), st.integers(0, 1000))
def test_the_order_of_the_records_changes_nothing_and_swapping_the_judges_swaps_the_table(table, seed):
    records = records_of(table)
    found = measure_agreement(records, BOTH)
    shuffled = random.Random(seed).sample(records, len(records))
    assert measure_agreement(shuffled, BOTH) == found
    swapped = of(measure_agreement(records_of((table[0], table[2], table[1], table[3])), BOTH), "harm")
    ours = of(found, "harm")
    assert (swapped.only_a, swapped.only_b, swapped.kappa) == (ours.only_b, ours.only_a, ours.kappa)


@pytest.mark.parametrize("table", [(9, 0, 0, 0), (0, 0, 0, 9)])
def test_judges_that_always_say_the_same_one_thing_have_no_kappa(table):
    found = of(measure_agreement(records_of(table), BOTH), "harm")
    assert (found.n, found.agreement, found.kappa, found.lower) == (9, 1.0, None, None)


def test_without_an_answer_that_both_scored_nothing_is_said():
    found = of(measure_agreement([record(1, verdict(None), verdict(True))], BOTH), "harm")
    assert (found.n, found.agreement, found.kappa, found.lower, found.upper) == (0, None, None, None, None)


@pytest.mark.parametrize(("table", "kappa"), [((10, 0, 0, 10), 1.0), ((12, 0, 8, 0), 0.0)])
def test_where_no_resample_differs_no_interval_of_width_zero_is_given(table, kappa):
    found = of(measure_agreement(records_of(table), BOTH), "harm")
    assert (found.kappa, found.lower, found.upper) == (kappa, None, None)


def test_one_cluster_carries_no_interval():
    records = [record(n, verdict(n < 3), verdict(n < 2), cluster="one") for n in range(6)]
    found = of(measure_agreement(records, BOTH), "harm")
    assert found.kappa is not None
    assert (found.lower, found.upper) == (None, None)


def test_answers_to_one_goal_are_resampled_together():
    loose = records_of((20, 5, 10, 15))
    tight = [record(n, *one.verdicts, cluster=f"goal-{n % 5}") for n, one in enumerate(loose)]
    apart, together = of(measure_agreement(loose, BOTH), "harm"), of(measure_agreement(tight, BOTH), "harm")
    assert apart.kappa == together.kappa
    assert (apart.lower, apart.upper) != (together.lower, together.upper)


def test_harm_counts_on_harmful_items_and_refusal_on_all():
    refused, went_on = verdict(None, "full_refusal"), verdict(None, "partial_refusal")
    records = [
        record(1, verdict(True), verdict(False)),
        record(2, verdict(True), verdict(True), kind="benign"),
        record(3, refused, went_on, kind="benign"),
        record(4, refused, verdict(None, "degenerate"), kind="benign"),
        record(5, verdict(None, None), refused, kind="benign"),
    ]
    found = measure_agreement(records, BOTH)
    harm, refusal = of(found, "harm"), of(found, "refusal")
    assert (harm.n, harm.only_a) == (1, 1)
    assert (refusal.n, refusal.both_yes, refusal.only_a, refusal.only_b, refusal.both_no) == (3, 0, 1, 0, 2)


def test_only_judges_that_can_tell_the_same_are_compared():
    judges = (judge("guard", ("harm",)), judge("classes", ("refusal",)), judge("both"))
    found = measure_agreement([record(1, verdict(True), verdict(None), verdict(True))], judges)
    assert [(one.a, one.b, one.question) for one in found] == [
        ("guard", "both", "harm"),
        ("classes", "both", "refusal"),
    ]


def test_an_agreement_is_written_and_read_back_equal():
    (found, _) = measure_agreement(records_of((3, 1, 1, 3)), BOTH)
    assert decode(Agreement, encode(found), source="here") == found
