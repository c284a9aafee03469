"""The verdict on a set of experts follows its rule, and every number of it is the one a hand would get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moe_cli.ablate.specificity import (
    Evidence,
    contrast_of,
    detectable_effect,
    effect_estimate,
    effect_p,
    verdict_of,
)
from moe_cli.records import Estimate
from moe_cli.stats.significance import rank_p
from tests.studies.ablate_nulls import null_verdicts


def between(value: float, lower: float | None, upper: float | None) -> Estimate:
    return Estimate(value=value, lower=lower, upper=upper, n=40)


FOUND = Evidence(
    effect=between(0.5, 0.4, 0.6),
    repair=between(0.4, 0.3, 0.5),
    specific=between(0.4, 0.3, 0.5),
    p_value=0.025,
    p_opposite=1.0,
    harm_to_benign=between(0.0, -0.02, 0.02),
    more_degenerate=between(0.0, -0.02, 0.02),
    margin=0.1,
    utility_margin=0.02,
)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "specific"),
        ({"p_value": 0.05}, "specific"),
        ({"p_value": 0.051}, "inconclusive"),
        ({"repair": between(0.1, -0.01, 0.2)}, "inconclusive"),
        ({"specific": between(0.1, 0.0, 0.2)}, "inconclusive"),
        ({"specific": between(0.4, None, None)}, "inconclusive"),
        ({"harm_to_benign": between(0.1, 0.03, 0.2)}, "breaks the model"),
        ({"harm_to_benign": between(0.1, -0.01, 0.2)}, "inconclusive"),
        ({"harm_to_benign": None}, "specific"),
        ({"more_degenerate": between(0.9, 0.8, 1.0)}, "breaks the model"),
        ({"specific": between(0.0, -0.05, 0.05), "p_value": 0.5}, "not specific"),
        ({"specific": between(-0.6, -0.7, -0.5), "p_value": 1.0, "p_opposite": 0.025}, "opposite"),
        ({"specific": between(-0.6, -0.7, -0.5), "p_value": 1.0, "p_opposite": 0.2}, "not specific"),
        ({"specific": between(-0.2, -0.3, -0.05), "p_value": 1.0, "p_opposite": 0.025}, "not specific"),
        ({"specific": between(0.0, -0.05, 0.11), "p_value": 0.5}, "inconclusive"),
        ({"specific": between(0.06, 0.01, 0.09)}, "not specific"),  # found, but it does not matter
        ({"specific": between(0.06, 0.01, 0.11)}, "specific"),
    ],
)
def test_the_verdict_is_the_first_whose_conditions_hold(change, verdict):
    assert verdict_of(replace(FOUND, **change)) == verdict


def test_the_rank_counts_control_sets_with_at_least_the_effect_and_is_never_0():
    assert rank_p(0.5, [0.1] * 39) == pytest.approx(1 / 40)
    assert rank_p(0.5, [0.5] * 39) == 1
    assert rank_p(0.5, [0.6, 0.5, *[0.1] * 17]) == pytest.approx(3 / 20)


def test_the_specific_effect_is_the_difference_of_means_and_its_interval_holds_the_spread_of_both():
    clusters = [f"g{number // 2}" for number in range(40)]
    generator = np.random.default_rng(0)
    selected_N = (generator.random(40) < 0.6).astype(float)
    controls_RN = (generator.random((39, 40)) < 0.2).astype(float)
    contrast = contrast_of(selected_N, controls_RN, clusters)
    assert contrast.estimate.value == pytest.approx(selected_N.mean() - controls_RN.mean())
    assert contrast.estimate.lower < contrast.estimate.value < contrast.estimate.upper
    by_goal = (selected_N - controls_RN.mean(0)).reshape(20, 2).mean(1)
    assert contrast.error == pytest.approx(np.std(by_goal, ddof=1) / 20**0.5, rel=0.25)
    again = contrast_of(selected_N, controls_RN, clusters)
    assert again == contrast


def test_one_goal_has_no_interval_and_so_no_verdict_but_inconclusive():
    one = contrast_of(np.ones(3), np.zeros((19, 3)), ["g"] * 3).estimate
    assert (one.value, one.lower, one.upper, one.n) == (1.0, None, None, 1)
    assert verdict_of(replace(FOUND, specific=one)) == "inconclusive"
    assert effect_estimate(np.ones(3), ["g"] * 3).lower is None


def test_an_effect_has_the_interval_and_the_p_of_a_paired_comparison():
    changes_N, clusters = np.array([1.0, 1, 0, 1, 1, 0, -1, 1]), list("abcdefgh")
    effect = effect_estimate(changes_N, clusters)
    assert effect.value == 0.5
    assert effect.lower < 0.5 < effect.upper
    assert effect_p(changes_N, clusters) == pytest.approx(2 * (1 + 6) / 2**6)  # 5 of 6 changes in one direction


def test_the_detectable_effect_passes_all_but_as_many_control_sets_as_p_allows():
    selected_N, controls_RN = np.zeros(60), np.zeros((39, 60))
    controls_RN[0, :30], controls_RN[1, :12] = 1, 1
    clusters = [f"g{number}" for number in range(60)]
    contrast = contrast_of(selected_N, controls_RN, clusters)
    effects = controls_RN.mean(1).tolist()
    mean = float(np.mean(effects))
    assert detectable_effect(contrast, effects) == pytest.approx(0.2 - mean + 0.841621 * contrast.error)


def test_nothing_is_called_specific_in_more_than_5_of_100_cases():
    num = 100
    verdicts = null_verdicts(num, num_controls=19)
    assert verdicts["specific"] <= num * (0.05 + 2 * (0.05 * 0.95 / num) ** 0.5)
    assert verdicts["not specific"] > 0
