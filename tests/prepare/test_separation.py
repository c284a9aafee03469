"""The AUROC on held-out goals: exact, of goals that chose nothing, with small p-values only where sides differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from moe_cli.prepare.selection_evidence import separation_of
from moe_cli.prepare.separation import AnswerScores, areas, resampled_area, split_goals
from moe_cli.records import HarmlessCounts, Separation
from moe_cli.stats.control_sets import chance_of_same_set, draw_control_sets
from tests.prepare.finished import PAIRS_IN_BATCH, config_of, found_in, planted_counts
from tests.prepare.replayed import replayed
from tests.prepare.simulated import counts_of, rule
from tests.studies.separation_nulls import batches_of, coverage, null_p_values, simulated_counts


def measured(counts, by=None, seed=1, draws=99):
    by = by or rule(num_experts=counts.routed.shape[-1])
    return separation_of(by, counts, batches_of(counts), (), draws=draws, resamples=20, seed=seed)


def answers_of(scores_AV, unsafe_A, goals_A) -> AnswerScores:
    return AnswerScores(np.asarray(scores_AV, dtype=float), np.asarray(unsafe_A), tuple(goals_A), 0.0)


def test_the_area_is_the_share_of_comparisons_won_with_ties_as_one_half():
    generator = np.random.default_rng(0)
    scores_AV, unsafe_A = generator.integers(0, 5, (30, 4)).astype(float), np.arange(30) < 11
    for column, area in zip(scores_AV.T, areas(scores_AV, unsafe_A), strict=True):
        won = [(u > s) + (u == s) / 2 for u in column[unsafe_A] for s in column[~unsafe_A]]
        assert area == pytest.approx(np.mean(won), abs=1e-12)
        reference = mannwhitneyu(column[unsafe_A], column[~unsafe_A]).statistic / (11 * 19)
        assert area == pytest.approx(reference, abs=1e-12)
    mirrored = areas(scores_AV, ~unsafe_A)
    assert mirrored == pytest.approx(1 - areas(scores_AV, unsafe_A), abs=1e-12)


def test_the_interval_is_that_of_resampled_goals_on_the_scale_of_logits_and_there_is_none_at_1():
    generator = np.random.default_rng(1)
    scores_A = np.concatenate([generator.normal(0, 1, 40), generator.normal(1, 1, 40)]).round(1)
    unsafe_A, goals_A = np.repeat([False, True], 40), [f"goal-{i % 20}" for i in range(80)]
    answers = answers_of(scores_A[:, None], unsafe_A, goals_A)
    area = float(areas(answers.scores_AV, unsafe_A)[0])
    found = resampled_area(area, answers, seed=5)
    names = sorted(set(goals_A))
    resampled = []
    for _ in range(1000):
        rows = [i for goal in generator.choice(names, 20) for i in np.flatnonzero(np.array(goals_A) == goal)]
        resampled.append(areas(scores_A[rows, None], unsafe_A[rows])[0])
    reach = 2.093 * np.std(resampled) * (20 / 19) ** 0.5 / (area * (1 - area))  # t of 19 degrees of freedom
    expected = [1 / (1 + np.exp(-(np.log(area / (1 - area)) + one))) for one in (-reach, reach)]
    assert [found.lower, found.upper] == pytest.approx(expected, abs=0.01) and found.lower < area < found.upper
    assert found.n == 20
    apart = answers_of(unsafe_A[:, None] * 1.0, unsafe_A, goals_A)
    assert resampled_area(1.0, apart, seed=5).lower is None


def test_no_goal_is_in_both_halves_and_its_harmless_prompts_go_with_it():
    counts = counts_of(30)
    goals = tuple(f"goal-{pair // 3}" for pair in range(30))
    brought = HarmlessCounts(prompt_ids=goals, clusters=goals, routed=counts.routed, seen=counts.seen[:, 0])
    counts = dataclasses.replace(counts, clusters=goals, harmless=brought)
    split = split_goals(counts, batches_of(counts), seed=3)
    selecting = {goals[pair] for batch in split.batches for pair in batch}
    held_out = {goals[pair] for pair in split.held_out}
    assert selecting | held_out == set(goals) and not selecting & held_out
    assert split.num_selecting == len(selecting) == len(held_out) == 5
    assert set(split.counts.harmless.clusters) == selecting and len(split.counts.harmless.routed) == 15


def test_a_planted_difference_has_an_area_near_1_and_a_small_p():
    found = measured(simulated_counts(np.random.default_rng(2), factor=6.0))
    assert isinstance(found, Separation)
    assert found.auroc.value > 0.98 and found.p_value <= 0.02 and found.control_mean < 0.9
    assert (found.num_goals_selecting, found.auroc.n, found.num_answers) == (40, 40, 80)


def test_labels_without_meaning_have_small_p_values_in_5_of_100_cases_and_folds_would_fail_that():
    num = 100
    bound = 0.05 + 2 * (0.05 * 0.95 / num) ** 0.5
    assert np.mean(null_p_values(num, most=12) <= 0.05) <= bound
    assert np.mean(null_p_values(num, most=12, folds=True) <= 0.05) > bound


def test_the_interval_of_few_goals_holds_the_area_of_many_even_near_1():
    area, _, held = coverage(150, 2.5, 40)
    assert area > 0.9 and held >= 0.95 - 2 * (0.95 * 0.05 / 150) ** 0.5  # percentiles of the resamples: 0.86


def test_labels_of_held_out_goals_decide_nothing_that_is_selected():
    counts = simulated_counts(np.random.default_rng(4), factor=3.0)
    split = split_goals(counts, batches_of(counts), seed=1)
    turned = counts.routed.copy()
    turned[list(split.held_out)] = turned[list(split.held_out), ::-1]
    seen = counts.seen.copy()
    seen[list(split.held_out)] = seen[list(split.held_out), ::-1]
    here, there = measured(counts), measured(dataclasses.replace(counts, routed=turned, seen=seen))
    assert there.auroc.value == pytest.approx(1 - here.auroc.value, abs=1e-12)
    assert (here.num_experts, here.chance_of_same) == (there.num_experts, there.chance_of_same)


@pytest.mark.parametrize("method", ["risk_diff", "text", "did", "stability", "esft-token", "frequency", "random"])
def test_every_method_that_chooses_by_goals_is_measured_on_others(method):
    found = measured(replayed(40, text=5.0, harmless=10), rule(method), draws=19)
    assert isinstance(found, Separation) and found.num_experts > 0


@pytest.mark.parametrize(
    ("method", "pairs", "reason"),
    [
        ("all", 40, "every expert is selected"),
        ("file", 40, "the experts come from a file"),
        ("gradient", 40, "gradients are stored for whole batches"),
        ("risk_diff", 19, "it needs 20 goals, of which half select, and there are 19"),
    ],
)
def test_where_no_goal_is_held_out_the_reason_is_given(method, pairs, reason):
    assert measured(counts_of(pairs), rule(method)).startswith(reason)


def test_a_rule_that_selects_nothing_from_half_of_the_goals_has_a_reason():
    assert measured(counts_of(40), rule(threshold=0.9)) == "from half of the goals the same rule selects no expert"


def test_the_selection_holds_the_area_or_the_reason(tmp_path):
    few = found_in(config_of(tmp_path), planted_counts()).selection
    assert few.separation is None and "there are 18" in few.no_separation
    assert PAIRS_IN_BATCH * 3 == 18


def test_the_chance_of_the_same_set_is_the_share_of_draws_that_are_it():
    use_LE, selected_LE = np.arange(8).reshape(1, 8), np.zeros((1, 8), dtype=bool)
    selected_LE[0, [0, 5]] = True  # one of two in two strata
    assert chance_of_same_set(selected_LE, use_LE) == 0.25
    same = [np.array_equal(one, selected_LE) for one in draw_control_sets(selected_LE, use_LE, num=2000, seed=3)]
    assert np.mean(same) == pytest.approx(0.25, abs=0.04)
