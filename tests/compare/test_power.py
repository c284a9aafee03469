"""The detectable difference is the one that the verdict really finds, with the correction that it really gets."""

import numpy as np
import pytest
from scipy.stats import binom

from moe_cli.stats.outcomes import PairedOutcomes
from moe_cli.stats.paired import difference_of_pairs
from moe_cli.stats.power import _most_against, _power_of_mcnemar
from moe_cli.stats.significance import mcnemar_p
from tests.studies.power import Scenario, said_and_found


def outcomes(a, b, *, per_cluster=1):
    names = tuple(map(str, range(len(a))))
    return PairedOutcomes(
        metric="m",
        better="lower",
        primary=True,
        missing_is_no=False,
        ids=names,
        suites=names,
        clusters=tuple(str(place // per_cluster) for place in range(len(a))),
        a=(tuple(a),),
        b=(tuple(b),),
    )


def detectable(a, b, num_tests, **options):
    return difference_of_pairs([outcomes(a, b, **options)], margin=0.02, num_tests=num_tests)[0].detectable


# By the t of the interval 10.9 points were said, and found in 64 % alone and in 45 % with Holm over 3 (n = 100, rate
# 0.1); n = 50, rate 0.05: 47 and 29 %.
@pytest.mark.parametrize("num_tests", [1, 3])
@pytest.mark.parametrize(("num_items", "rate"), [(100, 0.1), (50, 0.05)])
def test_what_is_said_to_be_found_is_found_in_about_80_percent(num_items, rate, num_tests):
    scenario = Scenario(num_items=num_items, cluster_size=1, rate=rate, within=0.0, between=0.5, num_tests=num_tests)
    _, found = said_and_found(scenario, num_said=40, draws=1000, random=np.random.default_rng(1))
    assert 0.75 <= found <= 0.85


def test_the_power_of_mcnemar_is_the_sum_over_all_that_can_happen():
    num, only_a, only_b, level = 12, 0.1, 0.4, 0.05
    expected = sum(
        binom.pmf(changed, num, only_a + only_b) * binom.pmf(against, changed, only_a / (only_a + only_b))
        for changed in range(num + 1)
        for against in range(changed + 1)
        if mcnemar_p(against, changed - against) < level
    )
    assert _power_of_mcnemar(num, only_a, only_b, level) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.05, 0.05 / 3, 0.001])
def test_the_most_against_is_the_last_that_is_significant(level):
    changed = np.arange(0, 400)
    for num, most in zip(changed, _most_against(changed, level), strict=True):
        fits = [k for k in range(num // 2 + 1) if mcnemar_p(k, num - k) < level]
        assert most == (fits[-1] if fits else -1)


def test_more_tests_need_a_larger_difference():
    a, b = [True, False] * 50, [True] * 55 + [False] * 45
    assert detectable(a, b, 1) < detectable(a, b, 3) < detectable(a, b, 30)


def test_with_fewer_than_six_goals_nothing_can_be_found_and_with_three_tests_not_with_six():
    a, b = [True, False] * 60, [False, True] * 60
    assert detectable(a, b, 1, per_cluster=24) is None
    assert detectable(a, b, 1, per_cluster=20) is not None
    assert detectable(a, b, 3, per_cluster=20) is None


def test_a_giant_goal_hides_all_but_the_largest_differences():
    a, b = [True, False] * 100, [True] * 60 + [False] * 140
    metric = outcomes(a, b)
    giant = PairedOutcomes(
        **{
            **{name: getattr(metric, name) for name in metric.__slots__},
            "clusters": ("giant",) * 100 + metric.clusters[100:],
        }
    )
    (found,) = difference_of_pairs([giant], margin=0.02)
    assert found.detectable is None or found.detectable > 2 * detectable(a, b, 1)
