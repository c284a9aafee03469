"""Masking and steering hold in all families, whatever correction biases or choices of groups say beside the logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from moe_cli.errors import UsageError
from moe_cli.model.interventions import steered, top_k_of, without_experts
from moe_cli.model.router_seam import router_seam
from moe_cli.model.routing import record_routing
from moe_cli.model.topology import expert_layers, router_module
from moe_cli.records import Expert
from moe_cli.records.ablation import Intervention, Steering
from tests.experts.catalog import build
from tests.experts.steps import token_ids
from tests.model.intervened import loaded_as
from tests.model.test_router_seam import SEEN, Reader, choosing, most_used, output, without_rows

torch.set_num_threads(1)

NUM_TOKENS = 27
WEIGHED_IN_GROUPS = ("deepseek_ocr2", "deepseek_v2", "unlimited_ocr")  # no weight outside the groups that were chosen
GROUPED = """
axk1 axk2 bailing_hybrid beam deepseek_v3 deepseek_v32 dots1 dots3_note exaone_moe glm4_moe glm4_moe_lite glm4v_moe
glm5_next glm_moe_dsa hy_v4 hy_v4_vl kimi_linear mimo_v2_flash mistral4 mistral_large4 nemotron_h solar_open
"""
IN_GROUPS = frozenset(GROUPED.split())


def biases_of(model: nn.Module) -> list[torch.Tensor]:
    """The buffers of the expert blocks with a value for each expert."""
    return [
        buffer
        for layer in expert_layers(model)
        for buffer in model.get_submodule(layer.name.rpartition(".")[0]).buffers()
        if buffer.shape[-1:] == (layer.num_experts,)
    ]


def with_biases(family: str) -> PreTrainedModel:
    """The family's model with random values in `biases_of`; biases that are parameters are random in the catalog."""
    model, generator = build(family), torch.Generator().manual_seed(1)
    for bias in biases_of(model):
        bias.copy_(torch.randn(bias.shape, generator=generator))
    return model


def in_groups(family: str, *, num_chosen: int, num_groups: int = 4) -> PreTrainedModel:
    model = with_biases(family)
    for layer in expert_layers(model):
        router = router_module(model, layer)
        assert hasattr(router, "num_group") and hasattr(router, "topk_group")
        router.num_group, router.topk_group = num_groups, num_chosen
        if family in WEIGHED_IN_GROUPS:
            assert hasattr(router, "topk_method")
            router.topk_method = "group_limited_greedy"
    return model


def counts_of(model: nn.Module) -> np.ndarray:
    """[L, E]."""
    with record_routing(model) as recorder, torch.no_grad():
        recorder.watch(torch.ones(1, 3, 9, dtype=torch.bool))
        model(input_ids=token_ids(3, 9), use_cache=False)
        return recorder.counts().sum((0, 1)).numpy()


def experts_of(model: nn.Module, layers: list[int], indices: tuple[int, ...]) -> tuple[Expert, ...]:
    named = expert_layers(model)
    return tuple(Expert(layer=named[layer].layer, index=index) for layer in layers for index in indices)


def steering_of(model: nn.Module, layers: list[int], up: tuple[int, ...], down: tuple[int, ...]) -> Steering:
    return Steering(activate=experts_of(model, layers, up), deactivate=experts_of(model, layers, down), epsilon=0.01)


def without(model: PreTrainedModel, experts: tuple[Expert, ...]):
    return without_experts(loaded_as(model), Intervention(experts=experts, kind="reroute", tokens="all"))


def test_the_families_with_a_correction_bias_as_a_buffer_are_tested_with_values_in_it():
    with_buffer = {family for family in SEEN if biases_of(build(family))}
    assert with_buffer >= {"deepseek_v3", "lfm2_moe", "minimax_m2"} & {*SEEN}
    assert all((bias != 0).all() for family in with_buffer for bias in biases_of(with_biases(family)))


def test_every_family_whose_router_chooses_groups_first_is_tested_with_groups():
    routers = {family: router_module(model := build(family), expert_layers(model)[-1]) for family in SEEN}
    grouped = {family for family, router in routers.items() if hasattr(router, "topk_group")}
    assert grouped == {*IN_GROUPS, *WEIGHED_IN_GROUPS} & {*SEEN}


@pytest.mark.parametrize("family", SEEN)
def test_every_token_gets_the_activated_experts_and_none_that_is_deactivated(family):
    model = with_biases(family)
    before, layers, top_k = output(model), choosing(model, family), top_k_of(model)
    for up in ((1,), (1, 6), (0, 3, 6)):
        with steered(loaded_as(model), steering_of(model, layers, up, (4, 5))):
            counts_LE = counts_of(model)
        for index in layers:
            assert counts_LE[index, list(up)].sum() == NUM_TOKENS * min(len(up), top_k[index])
            assert counts_LE[index, [4, 5]].sum() == 0
    assert torch.equal(output(model), before)


@pytest.mark.parametrize("family", SEEN)
def test_masked_experts_get_no_token_whatever_the_bias(family):
    model = with_biases(family)
    layers, top_k = choosing(model, family), top_k_of(model)
    for experts in (tuple(most_used(model, layers)), experts_of(model, layers, (0, 1, 2, 3, 4))):
        with without(model, experts):
            counts_LE = counts_of(model)
        index_of = {layer.layer: index for index, layer in enumerate(expert_layers(model))}
        assert all(counts_LE[index_of[expert.layer], expert.index] == 0 for expert in experts)
        if family != "zaya":  # a token that skips the experts has no weight, and is not counted
            assert all(counts_LE[index].sum() == NUM_TOKENS * top_k[index] for index in layers)


@pytest.mark.parametrize("family", SEEN)
def test_scores_that_a_handler_changes_are_never_weights(family):
    class Scaling(Reader):
        def scores(self, index, scores_TC):
            return scores_TC.double() * 3 + 1  # in the same order

    model = with_biases(family)
    before = output(model)
    with router_seam(model, Scaling()):
        assert torch.equal(output(model), before)


@pytest.mark.parametrize("family", sorted({*IN_GROUPS} & {*SEEN}))
def test_an_activated_expert_is_chosen_although_its_group_is_not(family):
    model = in_groups(family, num_chosen=1)
    layers = choosing(model, family)
    with steered(loaded_as(model), steering_of(model, layers, (1, 6), (0, 2, 4))):
        counts_LE = counts_of(model)
    assert (counts_LE[layers][:, [1, 6]] == NUM_TOKENS).all()
    with steered(loaded_as(model), steering_of(model, layers, (), (0, 2, 4, 6))):  # one of every group is left
        counts_LE = counts_of(model)
    assert (counts_LE[layers][:, [0, 2, 4, 6]] == 0).all()
    assert (counts_LE[layers].sum(1) == 2 * NUM_TOKENS).all()


@pytest.mark.parametrize("family", sorted({*IN_GROUPS} & {*SEEN}))
def test_others_are_chosen_where_masks_leave_too_few_in_the_groups_of_a_token(family):
    model = in_groups(family, num_chosen=1)
    layers = choosing(model, family)
    for masked in ((0, 2, 4, 6), (0, 1, 2, 3, 4, 5)):
        with without(model, experts_of(model, layers, masked)):
            counts_LE = counts_of(model)
        assert (counts_LE[layers][:, list(masked)] == 0).all()
        assert (counts_LE[layers].sum(1) == 2 * NUM_TOKENS).all()


@pytest.mark.parametrize("family", sorted({*WEIGHED_IN_GROUPS} & {*SEEN}))
def test_steering_is_refused_where_an_expert_outside_the_chosen_groups_has_no_weight(family):
    steering = steering_of(in_groups(family, num_chosen=1), [0, 1], (1, 6), (2,))
    model = in_groups(family, num_chosen=1)
    before = output(model)
    with (
        pytest.raises(UsageError, match=rf"the layers \[0, 1\] of {type(model).__name__} cannot be steered so"),
        steered(loaded_as(model), steering),
    ):
        pass
    assert torch.equal(output(model), before)
    model = in_groups(family, num_chosen=2)
    with steered(loaded_as(model), steering):
        counts_LE = counts_of(model)
    assert (counts_LE[:, [1, 6]] == NUM_TOKENS).all() and (counts_LE[:, 2] == 0).all()


@pytest.mark.parametrize("num_chosen", [1, 2])
def test_the_bias_of_a_masked_expert_does_not_choose_its_group(num_chosen):
    """As in the model without these experts, where each of the two groups has one less."""
    model = in_groups("deepseek_v3", num_chosen=num_chosen, num_groups=2)
    for layer in expert_layers(model):
        router_module(model, layer).e_score_correction_bias[1] = 5.0
    masked = experts_of(model, [0, 1], (1, 5))
    smaller = without_rows(model, "deepseek_v3", [[0, 2, 3, 4, 6, 7]] * 2)
    for layer in expert_layers(smaller):
        router = router_module(smaller, layer)
        router.num_group, router.topk_group = 2, num_chosen
    with without(model, masked):
        through_seam = output(model)
    assert torch.allclose(through_seam, output(smaller), rtol=0, atol=1e-6 * max(1.0, through_seam.abs().max().item()))
