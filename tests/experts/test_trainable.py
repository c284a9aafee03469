"""Counts, budget, and the proofs that training touches what was asked for."""

from __future__ import annotations

import pytest
import torch

from moe_cli.errors import UsageError
from moe_cli.experts.interface import attach
from moe_cli.experts.trainable import check_budget, count_trainable, freeze_rest, frozen_digest, probe_gradients
from tests.experts.families import FAMILIES, mixtral, olmoe
from tests.experts.steps import loss_of, some_experts, token_ids

torch.set_num_threads(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_baselines_ratio_is_exactly_one(family):
    model = FAMILIES[family]()
    counted = count_trainable(model)
    assert counted.trainable_params == counted.total_params == model.num_parameters()
    assert counted.trainable_ratio == 1.0
    assert counted.experts_per_layer == (8, 8)
    assert counted.num_experts == 8


def test_slices_are_counted_once_and_never_in_the_total():
    model = olmoe()
    total = model.num_parameters()
    with attach(model, some_experts(model)) as slices:
        counted = count_trainable(model, slices)
    # 2 layers x 3 experts x (2 x 16 x 32 + 32 x 16) = 9,216
    assert (counted.trainable_params, counted.total_params) == (9216, total)
    assert counted.trainable_ratio == 9216 / total
    assert counted.experts_per_layer == (3, 3)


def test_layers_without_a_selected_expert_count_zero():
    model = olmoe()
    with attach(model, [e for e in some_experts(model) if e.layer == 1]) as slices:
        assert count_trainable(model, slices).experts_per_layer == (0, 3)


def test_tied_weights_count_once():
    model = olmoe()
    untied = count_trainable(model).total_params
    model.lm_head.weight = model.model.embed_tokens.weight
    assert count_trainable(model).total_params == untied - 64 * 32


def test_something_else_that_would_train_is_a_bug_that_shows():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        model.lm_head.weight.requires_grad_()
        with pytest.raises(ValueError, match="another parameter requires a gradient"):
            count_trainable(model, slices)


def test_freezing_keeps_what_it_is_told_and_thawing_restores_every_flag():
    model = olmoe()
    model.model.norm.weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    thaw = freeze_rest(model, keep=[model.lm_head.weight])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["lm_head.weight"]
    thaw()
    assert [parameter.requires_grad for parameter in model.parameters()] == before


def test_a_share_above_the_budget_or_another_number_than_requested_is_refused():
    model = olmoe()
    with attach(model, some_experts(model)) as slices:
        counted = count_trainable(model, slices)
    check_budget(counted, requested_params=9216, budget=None)
    check_budget(counted, requested_params=9216, budget=counted.trainable_ratio)
    with pytest.raises(UsageError, match=r"25.90% of all parameters, the budget is 5.00%"):
        check_budget(counted, requested_params=9216, budget=0.05)
    with pytest.raises(UsageError, match="asked to train 9,000 parameters, but 9,216"):
        check_budget(counted, requested_params=9000, budget=None)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_finds_exactly_the_requested_slices_and_leaves_no_trace(family):
    model, ids = FAMILIES[family](), token_ids()
    with attach(model, some_experts(model)) as slices:
        torch.manual_seed(7)
        random = torch.get_rng_state()
        taken = slices.take()

        model.register_buffer("seen", torch.zeros(1))

        def loss():
            torch.rand(3)  # dropout would draw too
            model.seen += 1  # a router that balances its load would
            return loss_of(model, ids)

        assert probe_gradients(model, loss, slices.parameters.values()) == len(slices.parameters)
        ones = [expert for expert in slices.experts if expert.index == 1]
        slices.activate(ones)
        requested = [slices.parameters[name] for name in slices.names_of(ones)]
        assert probe_gradients(model, loss, requested) == len(requested)
        assert torch.equal(torch.get_rng_state(), random)
        assert not model.seen.any()
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(taken[name], master) for name, master in slices.parameters.items())


def test_the_probe_keeps_gradients_that_were_there():
    model, ids = olmoe(), token_ids()
    loss_of(model, ids).backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert probe_gradients(model, lambda: loss_of(model, ids), list(model.parameters())) == len(before)
    assert all(torch.equal(before[name], p.grad) for name, p in model.named_parameters())


def test_the_probe_refuses_a_missing_and_an_uncalled_for_gradient():
    model, ids = olmoe(), token_ids()
    with attach(model, some_experts(model)) as slices:
        everything = list(slices.parameters.values())
        with pytest.raises(ValueError, match=r"asked for 11 gradients and got 12.*not asked for: \['model.layers.0"):
            probe_gradients(model, lambda: loss_of(model, ids), everything[1:])
        slices.activate([expert for expert in slices.experts if expert.index != 1])
        with pytest.raises(ValueError, match=r"asked for 12 gradients and got 8.*without one: \['model.layers.0"):
            probe_gradients(model, lambda: loss_of(model, ids), everything)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_baselines_probe_allows_parameters_that_no_text_reaches_and_still_refuses_uncalled_for_gradients():
    model, ids = olmoe(), token_ids()
    model.unreached = torch.nn.Parameter(torch.zeros(2))
    everything = list(model.parameters())
    with pytest.raises(ValueError, match=r"without one: \['unreached'\]"):
        probe_gradients(model, lambda: loss_of(model, ids), everything)
    assert probe_gradients(model, lambda: loss_of(model, ids), everything, all_of_them=False) == len(everything) - 1
    with pytest.raises(ValueError, match="not asked for"):
        probe_gradients(model, lambda: loss_of(model, ids), everything[:-1], all_of_them=False)
    with pytest.raises(ValueError, match="got 0"):
        probe_gradients(model, lambda: torch.ones(1, requires_grad=True).sum(), everything, all_of_them=False)


def test_the_frozen_digest_is_the_same_before_while_and_after():
    model = mixtral()
    selected = some_experts(model)
    before = frozen_digest(model, selected)
    with attach(model, selected) as slices:
        assert frozen_digest(model, selected) == before
        optimizer = torch.optim.SGD(slices.parameters.values(), lr=1.0)
        loss_of(model, token_ids()).backward()
        optimizer.step()
        loss_of(model, token_ids())
        assert frozen_digest(model, selected) == before
        slices.merge()
    assert frozen_digest(model, selected) == before


@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.mlp.gate.weight"])
def test_the_frozen_digest_sees_every_other_byte(name):
    model = mixtral()
    selected = some_experts(model)
    before = frozen_digest(model, selected)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[-1] += 1e-3
    assert frozen_digest(model, selected) != before


@pytest.mark.parametrize("row", range(8))
def test_the_frozen_digest_is_blind_to_the_selected_rows_alone(row):
    model = mixtral()
    selected = some_experts(model)
    before = frozen_digest(model, selected)
    with torch.no_grad():
        model.model.layers[1].mlp.experts.gate_up_proj[row, 0, 0] += 1.0
    assert (frozen_digest(model, selected) == before) == (row in (1, 3, 6))
