"""Selection: the rule, its ties, its budget, its conditions, every method, and what it selects from noise."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from moe_cli.config.sections import conditions_of
from moe_cli.errors import UsageError
from moe_cli.prepare.methods import STANDINGS, MethodInputs, candidates_of, is_computable
from moe_cli.prepare.selection import BatchSelection, as_experts, as_masks
from moe_cli.prepare.selection_evidence import chosen_by, compare_selections
from moe_cli.prepare.selection_file import NamedExperts
from moe_cli.prepare.union_evidence import select_from_noise
from moe_cli.records import Expert
from tests.prepare.simulated import counts_of, measured, risk_of, rule

POOLED = [[0.3, 0.2, 0.06, 0.05], [-0.3, 0.2, 0.1, 0.0]]
PER_BATCH = [[[0.4, 0.1, 0.0, 0.9], [0.0, 0.2, 0.1, 0.0]], [[0.2, -0.1, 0.1, 0.9], [0.9, 0.2, np.nan, 0.0]]]
PAIRS = range(6)


def given(by, risk=None, seed=0, **changes):
    """What the rule chooses from four experts in each of two layers."""
    counts = dataclasses.replace(counts_of(6, experts=4), **changes)
    by = dataclasses.replace(by, num_experts=4)
    return chosen_by(by, MethodInputs(counts, tuple(PAIRS), risk or risk_of(PER_BATCH, POOLED), seed))


def test_candidates_are_the_largest_pooled_values_above_the_threshold_within_the_budget():
    assert given(rule(max_candidates=3)).candidates == (0, 1, 5)
    assert given(rule(max_candidates=9)).candidates == (0, 1, 2, 5, 6)


def test_a_condition_on_q_is_two_sided_and_one_on_the_difference_beside_it_takes_a_side():
    by, risk = rule("file", named=NamedExperts((0, 4))), risk_of(PER_BATCH, POOLED)  # 4: less active when pooled
    assert given(dataclasses.replace(by, conditions=conditions_of("q<0.05")), risk).union == (0, 4)
    one_sided = conditions_of("q<0.05 and risk_diff>0")
    assert given(dataclasses.replace(by, conditions=one_sided), risk).union == (0,)


def test_a_value_equal_to_the_threshold_is_no_candidate():
    assert 3 not in given(rule(max_candidates=9)).candidates


def test_a_batch_selects_candidates_with_a_positive_value_in_that_batch_and_never_an_undefined_one():
    chosen = given(rule(max_candidates=9))
    assert chosen.batches == ((0, 1, 5, 6), (0, 2, 5))
    assert chosen.union == (0, 1, 2, 5, 6)


def test_a_batch_selects_at_most_top_k():
    assert given(rule(max_candidates=9, top_k=2)).batches == ((0, 5), (0, 5))


def test_ties_go_to_the_lower_layer_then_the_lower_index():
    equal = [[0.2] * 4, [0.2] * 4]
    assert given(rule(max_candidates=5), risk_of([equal], equal)).candidates == (0, 1, 2, 3, 4)


def test_without_a_budget_the_original_rule_takes_each_batch_s_largest_above_the_threshold():
    assert given(rule(max_candidates=None, top_k=2)).batches == ((0, 3), (3, 4))


def test_a_layer_gives_at_most_so_many_candidates_the_largest_first():
    assert given(rule(max_candidates=9, per_layer=1)).candidates == (0, 5)
    assert given(rule("all", max_candidates=9, per_layer=1)).candidates == (0, 5)
    assert given(rule(max_candidates=None, per_layer=2)).candidates == (0, 1, 5, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("q<0.05", (0, 5)), ("q<0.05 and risk_diff>0.25", (0,)), ("lower>=0.2", (1,)), ("stability>0.9", (0, 1))],
)
def test_candidates_meet_every_condition_and_an_undefined_quantity_meets_none(text, expected):
    found = risk_of(
        PER_BATCH,
        POOLED,
        q_value=[[0.01, np.nan, 0.9, 0.9], [0.001, 0.04, 0.06, 0.9]],
        lower=[[0.1, 0.2, np.nan, 0.0], [0.0] * 4],
        stability=[[1.0, 0.95, 0.9, 0.0], [0.0] * 4],
    )
    assert given(rule(max_candidates=9, conditions=conditions_of(text)), found).candidates == expected


@pytest.mark.parametrize("method", ["random", "frequency"])
def test_the_controls_take_as_many_of_each_layer_as_the_risk_differences_would(method):
    by = rule(method, max_candidates=3, conditions=conditions_of("risk_diff<0.29"))
    chosen = [given(by, seed=seed).candidates for seed in range(8)]
    for candidates in chosen:
        assert np.bincount([i // 4 for i in candidates], minlength=2).tolist() == [1, 2]
    assert (len(set(chosen)) > 1) == (method == "random")
    assert given(by, seed=3).candidates == chosen[3]


@pytest.mark.parametrize("method", ["risk_diff", "frequency", "stability", "gradient", "random"])
def test_the_candidates_of_a_larger_budget_hold_those_of_a_smaller_one(method):
    counts = counts_of(48, shift=0.5)
    batches = [range(start, start + 8) for start in range(0, 48, 8)]
    gradients = np.random.default_rng(1).random((6, *counts.routed.shape[2:]))
    counts = dataclasses.replace(counts, gradients=gradients)
    by = rule(method, threshold=-1.0, stability=0.1)
    material = MethodInputs(counts, tuple(range(48)), measured(counts, batches, by=by), 3)
    chosen = [set(chosen_by(dataclasses.replace(by, max_candidates=most), material).candidates) for most in range(1, 9)]
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(chosen))
    assert len(chosen[0]) < len(chosen[-1])


def test_a_control_that_is_matched_to_another_method_has_its_number_of_experts_in_each_layer():
    gradients = np.array([[[0.0, 5.0, 4.0, 3.0], [0.0, 0.0, 1.0, 0.0]]])
    by = rule("random", max_candidates=3, matched_to="gradient")
    chosen = given(by, seed=1, gradients=gradients).candidates
    assert np.bincount([i // 4 for i in chosen], minlength=2).tolist() == [3, 0]
    assert "random" not in is_computable(by, counts_of(6, experts=4))  # no gradients were measured


CONTROLS = [rule("random", max_candidates=8), rule("frequency", max_candidates=8), rule("all")]


@pytest.mark.parametrize("by", [*CONTROLS, rule("file", named=NamedExperts((2, 4, 7)))], ids=lambda by: by.method)
def test_every_batch_trains_every_candidate_of_a_control_whatever_its_risk_difference(by):
    """Else a control trains half as often as the selection that it is a control for."""
    chosen = given(dataclasses.replace(by, top_k=1))
    masks = as_masks(chosen, 2, 4)
    assert masks.sum((1, 2)).tolist() == [len(chosen.candidates)] * 2
    assert chosen.union == chosen.candidates and len(chosen.candidates) >= 3


def test_a_control_trains_at_least_as_many_experts_in_a_batch_as_the_risk_differences_do():
    counts = counts_of(48, shift=0.5)
    batches = [range(start, start + 8) for start in range(0, 48, 8)]
    by = rule(max_candidates=6, threshold=-1.0)
    material = MethodInputs(counts, tuple(range(48)), measured(counts, batches, by=by), 3)
    of_risk = chosen_by(by, material)
    of_random = chosen_by(dataclasses.replace(by, method="random"), material)
    assert len(of_random.candidates) == len(of_risk.candidates) == 6
    assert [len(batch) for batch in of_random.batches] == [6] * 6
    assert min(len(batch) for batch in of_risk.batches) < 6


def test_frequency_takes_the_most_used_experts_of_the_unsafe_answers():
    routed = counts_of(6, experts=4).routed * 0
    routed[:, 1] = [[1, 2, 9, 8], [7, 1, 1, 1]]
    routed[:, 0, :, 1] = 50  # the safe side does not count
    assert given(rule("frequency", max_candidates=3), routed=routed).candidates == (2, 3, 4)


def test_the_methods_of_esft_take_each_layer_s_share_of_tokens_or_of_router_weights():
    routed = counts_of(6, experts=4).routed * 0
    routed[:, 1] = [[1, 2, 4, 3], [7, 1, 1, 1]]
    gates = routed[..., ::-1].astype(float)
    assert given(rule("esft-token", top_p=0.6), routed=routed, gates=gates).candidates == (2, 3, 4)
    assert given(rule("esft-gate", top_p=0.6), routed=routed, gates=gates).candidates == (0, 1, 7)
    assert given(rule("esft-token", top_p=0.6, max_candidates=1), routed=routed).candidates == (2, 3, 4)  # never cut


def test_the_gradient_takes_the_largest_mean_of_the_batches_within_the_budget():
    norms = np.array([[[9.0, 0, 1, 0], [2, 0, 0, 0]], [[1, 0, 1, 0], [8, 0, 0, 3]]])
    assert given(rule("gradient", max_candidates=3), gradients=norms).candidates == (0, 4, 7)
    assert given(rule("gradient", max_candidates=8), gradients=norms).candidates == (0, 2, 4, 7)


def test_a_gradient_that_was_not_measured_is_an_error_that_says_how_to_measure_it():
    with pytest.raises(UsageError, match="not measured") as refusal:
        given(rule("gradient"))
    assert "--scores gradient" in refusal.value.hint


def test_stability_takes_what_enough_resamples_take():
    found = risk_of(PER_BATCH, POOLED, stability=[[1.0, 0.8, 0.79, 0.0], [0.9, np.nan, 0.0, 0.0]])
    assert given(rule("stability", max_candidates=8), found).candidates == (0, 1, 4)
    assert given(rule("stability", max_candidates=2), found).candidates == (0, 1)


def test_all_selects_every_expert_in_every_batch():
    assert given(rule("all")).batches == (tuple(range(8)),) * 2


def test_a_list_names_the_candidates_and_a_table_is_cut_by_threshold_and_budget():
    named = rule("file", named=NamedExperts((3, 7)), max_candidates=1)
    assert given(named).candidates == (3, 7)
    assert given(named).batches == ((3, 7), (3, 7))
    table = NamedExperts((1, 3, 7), (0.04, 0.5, 0.6))
    assert given(rule("file", named=table, max_candidates=4)).candidates == (3, 7)
    assert given(rule("file", named=table, max_candidates=1)).candidates == (7,)


def test_masks_hold_exactly_the_selected_experts():
    masks = as_masks(BatchSelection((0, 5), ((0, 5), ())), 2, 4)
    assert masks.shape == (2, 2, 4)
    assert np.argwhere(masks).tolist() == [[0, 0, 0], [0, 1, 1]]


def test_flat_indices_become_decoder_layer_and_index():
    assert as_experts([0, 5], layers=(3, 7), num_experts=4) == (Expert(layer=3, index=0), Expert(layer=7, index=1))


def test_the_overlap_names_every_other_method_that_the_counts_allow():
    counts = counts_of(24, shift=5.0)
    by = rule(max_candidates=2, threshold=0.1)
    material = MethodInputs(counts, tuple(range(24)), measured(counts, [range(24)], by=by), 0)
    found = {one.method: one for one in compare_selections(by, material, chosen_by(by, material), [range(24)], 5)}
    assert set(found) == {"esft-token", "esft-gate", "stability", "random", "frequency"}
    assert set(is_computable(by, dataclasses.replace(counts, gradients=np.ones((1, 2, 8))))) - set(STANDINGS) == {
        "random",
        "frequency",
    }
    assert (found["stability"].num_shared, found["stability"].jaccard) == (2, 1.0)
    assert found["frequency"].num_shared == 2  # the planted experts are the most used ones


def test_the_same_seed_chooses_the_same_and_candidates_are_a_flat_mask():
    counts = counts_of(12)
    material = MethodInputs(counts, tuple(range(12)), measured(counts, [range(12)]), 4)
    masks = [candidates_of(rule("random", max_candidates=8, threshold=-1.0), material) for _ in range(2)]
    assert np.array_equal(*masks) and masks[0].shape == (16,)
    assert masks[0].dtype == np.bool_ and masks[0].sum() == 8


def nulls(by, counts, batches, draws=40):
    found = select_from_noise(by, counts, batches, draws=draws, permutations=100, seed=0)
    assert found is not None
    return found


def test_the_union_found_in_noise_is_about_as_large_as_the_null_union():
    sizes, means = [], []
    original = rule(num_experts=16, max_candidates=None, threshold=0.05, top_k=8)
    for seed in range(5):
        counts = counts_of(24, experts=16, seed=seed)
        batches = [range(start, start + 6) for start in range(0, 24, 6)]
        found = MethodInputs(counts, tuple(range(24)), measured(counts, batches, resamples=5, by=original), 0)
        sizes.append(len(chosen_by(original, found).union))
        means.append(nulls(original, counts, batches).mean)
    assert np.mean(sizes) == pytest.approx(np.mean(means), rel=0.25)


def test_the_null_union_of_a_clear_difference_is_smaller_than_the_union():
    counts, strict = counts_of(24, shift=5.0), rule(max_candidates=2, threshold=0.1)
    found = MethodInputs(counts, tuple(range(24)), measured(counts, [range(24)], resamples=5, by=strict), 0)
    assert len(chosen_by(strict, found).union) == 2
    assert nulls(strict, counts, [range(24)]).mean < 1.0


def test_the_null_union_keeps_conditions_on_q_and_is_left_out_for_what_only_resamples_tell():
    counts, batches = counts_of(24, shift=5.0), [range(12), range(12, 24)]
    loose = rule(threshold=0.0, max_candidates=8)
    strict = dataclasses.replace(loose, conditions=conditions_of("q<0.05"))
    assert nulls(strict, counts, batches).mean <= 0.1 * nulls(loose, counts, batches).mean
    for text in ("lower>0", "stability>0.5 and q<0.05"):
        by = dataclasses.replace(loose, conditions=conditions_of(text))
        assert select_from_noise(by, counts, batches, draws=5, permutations=20, seed=0) is None
    assert select_from_noise(rule("esft-token"), counts, batches, draws=5, permutations=20, seed=0) is None
