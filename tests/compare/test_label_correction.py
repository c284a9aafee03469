"""The corrected mean is PPI++ by its formulas, and keeps what it promises where judges fail."""

from dataclasses import replace

import numpy as np
import pytest

from moe_cli.stats.label_correction import LabelledItems, corrected_mean, judge_errors, rogan_gladen
from tests.studies.labels import SCENARIOS, shares


def items(judge, people, probability=0.125, votes=None, clusters=None):
    num = len(judge)
    return LabelledItems(
        judge_N=np.asarray(judge, dtype=float),
        people_N=np.asarray(people, dtype=float),
        probability_N=np.broadcast_to(np.asarray(probability, dtype=float), (num,)),
        vote_N=np.ones(num) if votes is None else np.asarray(votes, dtype=float),
        cluster_N=np.arange(num) if clusters is None else np.asarray(clusters),
    )


def drawn(num=800, labelled=100, seed=0):
    """A judge's and people's differences, of which some are labelled."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1.0, 0.0, 1.0], num, p=[0.3, 0.6, 0.1])
    judge = np.where(random.random(num) < 0.8, truth, random.choice([-1.0, 0.0, 1.0], num))
    people = np.full(num, np.nan)
    chosen = random.choice(num, labelled, replace=False)
    people[chosen] = truth[chosen]
    return judge, people


def test_of_equal_items_it_is_the_formula_of_the_paper():
    g, h = drawn()
    labelled, n, free = ~np.isnan(h), 100, 700
    weight = np.cov(h[labelled], g[labelled])[0, 1] / g[labelled].var(ddof=1) / (1 + n / free)
    rest = h[labelled] - weight * g[labelled]
    found = corrected_mean(items(g, h))
    assert 0 < weight < 1
    assert found.weight == pytest.approx(weight, abs=1e-12)
    assert found.value == pytest.approx(weight * g[~labelled].mean() + rest.mean(), abs=1e-12)
    variance = weight**2 * g[~labelled].var(ddof=1) / free + rest.var(ddof=1) / n + 2 / (n + 2) ** 2
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert found.freedom == pytest.approx(99)


def test_where_all_is_labelled_the_judge_says_nothing():
    g, _ = drawn()
    h, _ = drawn(seed=1)
    found = corrected_mean(items(g, h, probability=1.0))
    assert (found.weight, found.value) == (0.0, pytest.approx(h.mean()))


def test_a_judge_that_says_the_opposite_gets_no_weight():
    g, h = drawn()
    found = corrected_mean(items(-g, h))
    assert (found.weight, found.value) == (0.0, pytest.approx(np.nanmean(h)))


def test_swapping_the_arms_mirrors_it():
    g, h = drawn()
    a, b = corrected_mean(items(g, h)), corrected_mean(items(-g, -h))
    assert (a.value, a.lower, a.upper, a.p_value) == pytest.approx((-b.value, -b.upper, -b.lower, b.p_value))


def test_a_hundred_labels_without_an_error_do_not_show_that_there_is_none():
    people = np.where(np.arange(800) < 100, 0.0, np.nan)
    found = corrected_mean(items(np.zeros(800), people))
    assert found.value == 0 and found.upper == -found.lower > 0.02


def test_items_of_one_goal_count_as_one_where_they_are_alike():
    g, h = drawn(num=200, labelled=50)
    alone = corrected_mean(items(g, h))
    fourfold = corrected_mean(items(np.repeat(g, 4), np.repeat(h, 4), clusters=np.repeat(np.arange(200), 4)))
    assert (fourfold.value, fourfold.error, fourfold.freedom) == pytest.approx(
        (alone.value, alone.error, alone.freedom)
    )


def test_items_with_another_probability_weigh_as_many_as_they_stand_for():
    random = np.random.default_rng(0)
    g = np.repeat([1.0, 0.0], [100, 700])
    truth = np.where(random.random(800) < 0.9, g, 1 - g)
    values = []
    for _ in range(300):
        people = np.full(800, np.nan)
        for first, last, num in ((0, 100, 60), (100, 800, 60)):
            chosen = random.choice(np.arange(first, last), num, replace=False)
            people[chosen] = truth[chosen]
        probability = np.repeat([0.6, 60 / 700], [100, 700])
        values.append(corrected_mean(items(g, people, probability)).value)
    assert np.mean(values) == pytest.approx(truth.mean(), abs=0.01)
    assert abs(np.nanmean(people) - truth.mean()) > 0.1  # what it is without the weights


def test_a_mean_of_suites_is_that_of_their_votes():
    g = np.repeat([0.0, 1.0], [700, 100])
    people = np.where(np.arange(800) % 8 == 0, g, np.nan)
    found = corrected_mean(items(g, people, votes=np.repeat([1 / 7, 1.0], [700, 100])))
    assert found.value == pytest.approx(0.5)


def test_rogan_and_gladen_undo_equal_errors_and_say_nothing_of_a_judge_that_tells_nothing():
    people = np.repeat([1.0, 0.0], 100)
    judge = np.concatenate([np.arange(100) < 80, np.arange(100) < 10]).astype(float)
    errors = judge_errors(judge, people, np.ones(200))
    assert (errors.sensitivity, errors.specificity) == pytest.approx((0.8, 0.9))
    value, lower, upper = rogan_gladen(0.14, 0.01, errors)
    assert value == pytest.approx(0.2) and lower < 0.2 < upper
    assert rogan_gladen(0.14, 0.01, judge_errors(1 - judge, people, np.ones(200))) is None
    assert rogan_gladen(0.14, 0.01, judge_errors(judge[:100], people[:100], np.ones(100))) is None


def test_where_the_judge_misses_one_arms_harm_it_covers_and_neither_the_judge_nor_rogan_gladen_does():
    found = shares(SCENARIOS[1], 150, np.random.default_rng(0))
    assert found["PPI++"].covered >= 0.9 and found["PPI++"].false <= 0.1
    assert found["naive"].covered <= 0.1 and found["naive"].false >= 0.9
    assert found["Rogan-Gladen"].covered <= 0.1
    assert found["PPI++"].half_width < found["labels only"].half_width


def test_harm_that_no_label_shows_is_never_within_the_margin():
    rare = replace(SCENARIOS[-2], num_labels=50)
    found = shares(rare, 100, np.random.default_rng(0))
    assert (found["PPI++"].false, found["PPI++"].covered) == (0, 1)
    assert found["as printed"].false >= 0.1
