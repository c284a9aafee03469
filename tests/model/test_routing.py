"""Watching changes nothing, and what is counted is what the router chose."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_cli.errors import NumericError, UsageError
from moe_cli.model.routing import record_routing
from moe_cli.model.topology import expert_layers
from tests.experts.families import FAMILIES, olmoe
from tests.experts.steps import token_ids

torch.set_num_threads(1)


def router_indices(model, **inputs):
    """Per layer [B, S, K], taken from what reaches the experts modules: an independent way to see it."""
    seen, hooks = [], []
    for layer in expert_layers(model):
        hooks.append(layer.module.register_forward_pre_hook(lambda _, args: seen.append(args[1].clone())))
    with torch.no_grad():
        model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    rows, positions = inputs["input_ids"].shape
    return [indices.view(rows, positions, -1) for indices in seen]


def reference_counts(indices, regions_RBS, num_experts):
    """[B, R, L, E] by counting one by one."""
    counts = torch.zeros(regions_RBS.shape[1], regions_RBS.shape[0], len(indices), num_experts, dtype=torch.int64)
    for region, row, position in regions_RBS.nonzero().tolist():
        for layer, indices_BSK in enumerate(indices):
            for expert in indices_BSK[row, position].tolist():
                counts[row, region, layer, expert] += 1
    return counts


@pytest.mark.parametrize("family", FAMILIES)
def test_recording_changes_no_logit_and_counts_what_the_router_chose(family):
    model, ids = FAMILIES[family](), token_ids(3, 9)
    regions = torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    before = model(input_ids=ids, use_cache=False).logits
    with record_routing(model) as recorder:
        recorder.watch(regions)
        watched = model(input_ids=ids, use_cache=False).logits
        counts = recorder.counts()
    assert torch.equal(before, watched)
    assert torch.equal(counts, reference_counts(router_indices(model, input_ids=ids), regions, 8))
    assert torch.equal(counts.sum(-1), (2 * regions.sum(-1)).T[:, :, None].expand(-1, -1, counts.shape[2]))


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_are_the_weights_that_reached_the_experts_summed_over_the_counted_tokens(family):
    model, ids = FAMILIES[family](), token_ids(3, 9)
    regions = torch.rand(2, 3, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    seen, hooks = [], []
    for layer in expert_layers(model):
        hooks.append(layer.module.register_forward_pre_hook(lambda _, args: seen.append((args[1], args[2]))))
    with record_routing(model) as recorder:
        recorder.watch(regions)
        model(input_ids=ids, use_cache=False)
        gates = recorder.gates()
    for hook in hooks:
        hook.remove()
    expected = torch.zeros_like(gates)
    for layer, (indices, weights) in enumerate(seen):
        for region, row, position in regions.nonzero().tolist():
            token = row * 9 + position
            for expert, weight in zip(indices[token].tolist(), weights.view(27, -1)[token].tolist(), strict=True):
                expected[row, region, layer, expert] += weight
    assert gates.dtype is torch.float64
    assert torch.allclose(gates, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_the_function_that_was_active_before_still_computes(implementation):
    model, ids = olmoe(), token_ids()
    model.set_experts_implementation(implementation)
    before = model(input_ids=ids).logits
    with record_routing(model):
        assert torch.equal(model(input_ids=ids).logits, before)
    assert model.get_experts_implementation() == {"": implementation}


def test_recorders_nest_and_both_count():
    model, ids = olmoe(), token_ids()
    everything = torch.ones(1, *ids.shape, dtype=torch.bool)
    with record_routing(model) as outer, record_routing(model) as inner:
        outer.watch(everything)
        inner.watch(everything)
        model(input_ids=ids)
        assert torch.equal(outer.counts(), inner.counts())


def test_padding_is_not_counted():
    model, ids = olmoe(), token_ids(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    with record_routing(model) as recorder:
        recorder.watch(mask.bool()[None])
        model(input_ids=ids, attention_mask=mask, use_cache=False)
        padded = recorder.counts()
        recorder.watch(torch.ones(1, 1, 6, dtype=torch.bool))
        model(input_ids=ids[1:, :6], use_cache=False)
        alone = recorder.counts()
    assert torch.equal(padded[1], alone[0])


def test_sentinels_are_not_counted_and_do_not_break_the_sum():
    model = olmoe()
    layer = expert_layers(model)[0]
    with record_routing(model) as recorder:
        recorder.watch(torch.ones(1, 1, 2, dtype=torch.bool))
        recorder._before = [lambda module, tokens, experts, weights: tokens] * 2
        for each in expert_layers(model):
            each.module(torch.zeros(2, 32), torch.tensor([[0, 8], [9, 3]]), torch.ones(2, 2))
        counts, gates = recorder.counts(), recorder.gates()
    assert counts[0, 0, 0].tolist() == gates[0, 0, 0].tolist() == [1, 0, 0, 1, 0, 0, 0, 0]
    assert layer.num_experts == 8


def test_two_forwards_after_one_watch_are_a_bug_that_shows():
    model, ids = olmoe(), token_ids()
    with record_routing(model) as recorder:
        recorder.watch(torch.ones(1, *ids.shape, dtype=torch.bool))
        model(input_ids=ids)
        model(input_ids=ids)
        with pytest.raises(ValueError, match="one forward per watch"):
            recorder.counts()


def test_counting_without_a_forward_or_without_watching_is_a_bug_that_shows():
    model = olmoe()
    with record_routing(model) as recorder:
        with pytest.raises(ValueError, match="nothing is watched"):
            recorder.counts()
        model(input_ids=token_ids())  # unwatched: counts nothing, fails nothing
        recorder.watch(torch.ones(1, 2, 12, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"layers \[0, 1\]"):
            recorder.counts()


def test_regions_of_another_shape_are_refused():
    model, ids = olmoe(), token_ids()
    with record_routing(model) as recorder:
        with pytest.raises(ValueError, match="bool"):
            recorder.watch(torch.ones(2, 12))
        recorder.watch(torch.ones(1, 2, 11, dtype=torch.bool))
        with pytest.raises(ValueError, match="24 tokens, watched are 2 x 11"):
            model(input_ids=ids)


def test_after_an_error_the_model_is_as_it_was():
    model = olmoe()
    names = set(ALL_EXPERTS_FUNCTIONS)
    with pytest.raises(RuntimeError, match="mine"), record_routing(model):
        raise RuntimeError("mine")
    assert model.get_experts_implementation() == {"": "grouped_mm"}
    assert set(ALL_EXPERTS_FUNCTIONS) == names


def test_layers_with_different_numbers_of_experts_are_refused():
    model, smaller = olmoe(), olmoe()
    experts = smaller.model.layers[0].mlp.experts
    experts.num_experts = 4
    experts.gate_up_proj.data = experts.gate_up_proj.data[:4]
    experts.down_proj.data = experts.down_proj.data[:4]
    model.model.layers[0].mlp.experts = experts
    with pytest.raises(UsageError, match=r"different numbers of experts: \[4, 8\]"), record_routing(model):
        pass


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_choices_are_those_that_reached_the_experts_and_keeping_them_changes_no_logit(family):
    model, ids = FAMILIES[family](), token_ids(3, 9)
    before = model(input_ids=ids, use_cache=False).logits
    with record_routing(model, keep_choices=True) as recorder:
        recorder.watch(torch.zeros(1, 3, 9, dtype=torch.bool))
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)
        chosen = recorder.choices()
    for ours_TK, theirs_BSK in zip(chosen, router_indices(model, input_ids=ids), strict=True):
        assert torch.equal(ours_TK, theirs_BSK.view(27, -1))


def test_kept_choices_name_no_expert_for_sentinels_and_choices_without_weight():
    model = olmoe()
    with record_routing(model, keep_choices=True) as recorder:
        recorder.watch(torch.ones(1, 1, 2, dtype=torch.bool))
        recorder._before = [lambda module, tokens, experts, weights: tokens] * 2
        for each in expert_layers(model):
            each.module(torch.zeros(2, 32), torch.tensor([[0, 9], [3, 5]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        assert [chosen_TK.tolist() for chosen_TK in recorder.choices()] == [[[0, 8], [8, 5]]] * 2


def test_choices_that_are_not_kept_or_not_seen_yet_are_a_bug_that_shows():
    model = olmoe()
    for keep in (False, True):
        with record_routing(model, keep_choices=keep) as recorder:
            recorder.watch(torch.ones(1, 2, 12, dtype=torch.bool))
            with pytest.raises(ValueError, match="no choices are kept"):
                recorder.choices()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_counted_token_whose_router_says_no_number_is_refused_and_one_that_is_not_counted_is_no_matter(value):
    model, ids = olmoe(), token_ids(2, 5)
    place = 1
    last = expert_layers(model)[-1]
    router = next(module for name, module in model.named_modules() if name == f"{last.name.rpartition('.')[0]}.gate")
    poison = router.register_forward_pre_hook(lambda _, words: (words[0].index_fill(-2, torch.tensor([place]), value),))
    regions = torch.ones(1, 2, 5, dtype=torch.bool)
    with poison, torch.no_grad(), record_routing(model) as recorder:
        recorder.watch(regions)
        model(input_ids=ids, use_cache=False)
        with pytest.raises(NumericError, match=rf"weights are not finite .* in the layers \[{last.layer}\]"):
            recorder.counts()
        regions[0, 0, place] = False  # the rows are flattened: the second token of the first row
        recorder.watch(regions)
        model(input_ids=ids, use_cache=False)
        assert int(recorder.counts()[0, 0].sum(-1)[0]) == 2 * 4
