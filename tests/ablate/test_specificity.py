"""The verdict on a set of experts follows its rule, and every number of it is the one a hand would get."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from moe_cli.ablate.ablation_conclusion import _reason
from moe_cli.ablate.specificity import (
    AblationEvidence,
    contrast_of,
    detectable_specific_effect,
    effect_estimate,
    effect_p,
    largest_own_effect,
    specificity_verdict,
    why_untestable,
)
from moe_cli.records import Estimate
from moe_cli.stats.significance import rank_p
from tests.studies.ablate_nulls import MARGIN, carrier_verdicts, null_verdicts


def between(value: float, lower: float | None, upper: float | None) -> Estimate:
    return Estimate(value=value, lower=lower, upper=upper, n=40)


FOUND = AblationEvidence(
    effect=between(0.5, 0.4, 0.6),
    repair=between(0.4, 0.3, 0.5),
    specific=between(0.4, 0.3, 0.5),
    specific_at_most=0.5,
    p_value=0.025,
    p_opposite=1.0,
    harm_to_benign=between(0.0, -0.02, 0.02),
    more_degenerate=between(0.0, -0.02, 0.02),
    most_shared=0.4,
    chance_of_same=1e-9,
    largest=0.9,
    margin=0.1,
    utility_margin=0.02,
)
MORE_HARM = {"effect": between(-0.5, -0.6, -0.4), "p_value": 1.0}  # without the set


def evidence(**changes) -> AblationEvidence:
    """What was found with these changes, where the interval's end is the most that a specific effect may be."""
    return replace(FOUND, **{"specific_at_most": changes.get("specific", FOUND.specific).upper, **changes})


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
        ({"effect": between(0.0, -0.1, 0.1)}, "inconclusive"),  # others bring harm back, and these do not
        ({**MORE_HARM, "specific": between(-0.6, -0.7, -0.5), "p_opposite": 0.025}, "opposite"),
        ({**MORE_HARM, "specific": between(-0.6, -0.7, -0.5), "p_opposite": 0.2}, "not specific"),
        ({**MORE_HARM, "specific": between(-0.2, -0.3, -0.05), "p_opposite": 0.025}, "not specific"),
        ({"specific": between(-0.6, -0.7, -0.5), "p_value": 1.0, "p_opposite": 0.025}, "not specific"),  # less, as well
        ({"specific": between(0.0, -0.05, 0.07), "p_value": 0.5}, "inconclusive"),
        ({"specific": between(0.03, 0.01, 0.05)}, "not specific"),  # found, but it does not matter
        ({"specific": between(0.03, 0.01, 0.07)}, "specific"),
        ({"specific": between(0.0, -0.05, 0.05), "p_value": 0.5, "most_shared": 0.6}, "inconclusive"),
        ({"specific": between(0.0, 0.0, 0.0), "p_value": 1.0, "most_shared": 1.0}, "inconclusive"),
        ({"specific": between(0.0, 0.0, 0.0), "p_value": 1.0, "most_shared": 0.9}, "inconclusive"),
        ({"specific": between(0.0, -0.05, 0.05), "p_value": 0.5, "chance_of_same": 0.051}, "inconclusive"),
        ({"specific": between(0.0, -0.05, 0.05), "p_value": 0.5, "largest": 0.15}, "inconclusive"),
        ({"specific": between(0.0, -0.05, 0.05), "p_value": 0.5, "specific_at_most": 0.07}, "inconclusive"),
        ({"specific": between(0.4, 0.3, 0.5), "most_shared": 1.0}, "specific"),
    ],
)
def test_the_verdict_is_the_first_whose_conditions_hold(change, verdict):
    assert specificity_verdict(evidence(**change)) == verdict


def test_the_rank_counts_control_sets_with_at_least_the_effect_and_is_never_0():
    assert rank_p(0.5, [0.1] * 39) == pytest.approx(1 / 40)
    assert rank_p(0.5, [0.5] * 39) == 1
    assert rank_p(0.5, [0.6, 0.5, *[0.1] * 17]) == pytest.approx(3 / 20)


def test_what_control_sets_share_is_hidden_by_them_so_that_a_bound_is_taken_over_what_shows():
    def own(**changes):
        return largest_own_effect(evidence(**changes))

    assert own(specific=between(0.0, -0.1, 0.06), most_shared=0.0) == pytest.approx(0.06)
    assert own(specific=between(0.0, -0.1, 0.06), most_shared=0.75) == pytest.approx(0.24)
    assert own(specific=between(-0.2, -0.3, -0.1), most_shared=0.75) is None  # equally used others do more
    assert own(specific=between(0.0, -0.1, 0.3), most_shared=0.75) == 0.9  # no more than can go
    assert own(specific=between(0.0, 0.0, 0.0), most_shared=1.0) == 0.9
    assert own(specific=between(0.0, None, None)) is None


@pytest.mark.parametrize(
    ("change", "detectable", "says"),
    [
        ({"specific": between(-0.2, -0.3, -0.1), "p_value": 1.0}, 0.2, r"10 goals\): equally used experts do more$"),
        (
            {"specific": between(0.0, -0.05, 0.03), "p_value": 0.5, "most_shared": 0.5},
            *(
                0.2,
                "at most 6.0 points of their own, if no other expert does anything, as one of them is in 50%",
            ),
        ),
        (
            {"specific": between(0.0, -0.05, 0.1), "p_value": 0.5, "most_shared": 0.5},
            *(
                0.2,
                "up to 20.0 points of their own are not ruled out.*; 20.0 points beyond them would have been found",
            ),
        ),
        (
            {"specific": between(0.0, -0.05, 0.1), "p_value": 0.5, "most_shared": 0.8},
            *(
                0.2,
                "too few items to find anything: at most 18.0 points beyond them can show, and 20.0 points",
            ),
        ),
        (
            {"effect": between(0.1, -0.1, 0.3)},
            *(0.2, r"but an effect of the set itself is not shown: 10.0 points \[-10.0, 30.0\]"),
        ),
        (
            {"specific": between(-0.6, -0.7, -0.5), "p_value": 1.0, "p_opposite": 0.025},
            *(0.2, r"10 goals\): equally used experts do more$"),  # without the set there is less harm, not more
        ),
    ],
)
def test_the_sentence_says_of_whom_each_number_is(change, detectable, says):
    found = evidence(**change)
    table = SimpleNamespace(num_items=30, num_goals=10, side="unsafe")
    assert re.search(says, _reason(specificity_verdict(found), found, detectable, [0.1] * 19, table))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"chance_of_same": 0.05}, None),
        ({"chance_of_same": 0.25}, "a control set is the set of these experts itself with a chance of 25%"),
        ({"most_shared": 0.95, "largest": 0.8}, "of the 80.0 points that can go no more than 4.0 may show"),
        ({"most_shared": 1.0}, "one of these experts is in 100% of the control sets"),
        ({"most_shared": 0.4, "largest": 0.15}, "of the 15.0 points that can go no more than 9.0 may show"),
        ({"most_shared": 0.4, "largest": 0.05}, "only 5.0 % of the answers show what is to go"),
    ],
)
def test_control_sets_that_cannot_tell_are_named_with_the_reason(change, why):
    found = why_untestable(replace(FOUND, **change))
    assert found is None if why is None else why in found


def test_experts_that_carry_more_than_the_margin_are_called_not_specific_in_at_most_5_of_100_cases():
    num = 60
    bound = num * (0.05 + 2 * (0.05 * 0.95 / num) ** 0.5)
    for overlap in (0.05, 0.2, 0.5, 0.8, 0.95):
        for carrier, num_goals in (("all alike", 20), ("all alike", 40), ("the most shared", 120)):
            verdicts, _, _ = carrier_verdicts(
                num, overlap=overlap, num_goals=num_goals, harm=1.001 * MARGIN, carrier=carrier
            )
            assert verdicts["not specific"] <= bound, (overlap, carrier, num_goals)


def test_a_specific_effect_held_against_the_margin_as_it_is_or_over_the_mean_overlap_would_fail_that_test():
    num = 60
    bound = 0.05 + 2 * (0.05 * 0.95 / num) ** 0.5
    _, unscaled, over_mean = carrier_verdicts(
        num, overlap=0.5, num_goals=400, harm=1.001 * MARGIN, carrier="the most shared"
    )
    assert unscaled > bound and over_mean > bound


def test_experts_that_do_as_much_as_any_others_are_not_specific_with_few_shared_and_many_goals():
    verdicts, _, _ = carrier_verdicts(20, overlap=0.2, num_goals=120, harm=0.02, carrier=None)
    assert verdicts["not specific"] >= 18
    verdicts, _, _ = carrier_verdicts(20, overlap=0.95, num_goals=120, harm=0.02, carrier=None)
    assert verdicts["inconclusive"] == 20


def test_the_interval_of_a_specific_effect_has_a_width_where_nothing_changed():
    clusters = [f"g{number // 3}" for number in range(30)]
    nothing = contrast_of(np.zeros(30), np.zeros((19, 30)), clusters)
    assert nothing.estimate.value == 0
    assert nothing.estimate.upper == -nothing.estimate.lower > 0.1
    assert nothing.at_most == pytest.approx(2 * nothing.estimate.upper, rel=0.1)  # 1 in place of (1 + 1/19) / 2
    assert detectable_specific_effect(nothing, [0.0] * 19) > 0.1


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
    contrast = contrast_of(np.ones(3), np.zeros((19, 3)), ["g"] * 3)
    one = contrast.estimate
    assert contrast.error is detectable_specific_effect(contrast, [0.0] * 19) is None
    assert (one.value, one.lower, one.upper, one.n) == (1.0, None, None, 1)
    assert specificity_verdict(replace(FOUND, specific=one)) == "inconclusive"
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
    reach = contrast.estimate.value - contrast.estimate.lower
    assert 0.2 - mean > reach
    assert detectable_specific_effect(contrast, effects) == pytest.approx(0.2 - mean + 0.841621 * contrast.error)
    controls_RN[1, :12] = 0
    contrast = contrast_of(selected_N, controls_RN, clusters)
    reach = contrast.estimate.value - contrast.estimate.lower
    found = detectable_specific_effect(contrast, controls_RN.mean(1).tolist())
    assert found == pytest.approx(reach + 0.841621 * contrast.error)


def test_nothing_is_called_specific_in_more_than_5_of_100_cases():
    num = 100
    verdicts = null_verdicts(num, num_controls=19)
    assert verdicts["specific"] <= num * (0.05 + 2 * (0.05 * 0.95 / num) ** 0.5)
    assert verdicts["inconclusive"] > 0
