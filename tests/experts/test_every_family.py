"""Every family that transformers marks with its experts seam: built tiny, trained, recorded, merged, saved, reloaded.

On the same kernel (grouped_mm, float32) outputs are compared by bits. Two things are compared in float32 to 1e-4
relative and 1e-5 of the largest entry, as the order of a sum differs: gradients with the dense model's, and the output
with that of the family's own loop over experts, which knows nothing of the flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from moe_cli.experts.interface import attach
from moe_cli.experts.slices import slice_name
from moe_cli.model.routing import record_routing
from moe_cli.model.tensors import align_weights
from moe_cli.model.topology import expert_layers
from moe_cli.records import Expert
from tests.experts.catalog import CHECKED, LOOPED, RECIPES, SEAM, Recipe, build, families, unchecked_families
from tests.experts.steps import same_bits, token_ids, weights_of

torch.set_num_threads(1)


def selected(model: PreTrainedModel) -> list[Expert]:
    """In every layer the two experts with most choices and the one with fewest: random routers leave some unused."""
    with torch.no_grad(), watched_inputs(model) as seen:
        output(model)
    chosen = []
    for place, layer in enumerate(expert_layers(model)):
        experts = torch.cat([visit.experts_TK.flatten() for visit in seen if visit.place == place])
        order = torch.bincount(experts, minlength=8).argsort(descending=True, stable=True).tolist()
        chosen += [Expert(layer=layer.layer, index=index) for index in (*order[:2], order[-1])]
    return chosen


def output(model: PreTrainedModel, attention_mask: Tensor | None = None) -> Tensor:
    """Logits, or the hidden state of a text model without a head."""
    found = model(input_ids=token_ids(), attention_mask=attention_mask, use_cache=False)
    return found.logits if "logits" in found else found.last_hidden_state


class Visit(NamedTuple):
    """What reaches the experts of one layer; copies that keep their gradient."""

    place: int  # of the layer among the expert layers
    tokens_TH: Tensor
    experts_TK: Tensor
    router_TK: Tensor


@contextmanager
def watched_inputs(model: PreTrainedModel) -> Iterator[list[Visit]]:
    """The visits of all expert layers in the order of the forward; a family that loops visits some of them again."""
    seen = []

    def watch(place, _, inputs):
        tokens_TH, experts_TK, router_TK = inputs
        visit = Visit(place, tokens_TH.clone(), experts_TK.clone(), router_TK.clone())
        if tokens_TH.requires_grad:
            visit.tokens_TH.retain_grad()
            visit.router_TK.retain_grad()
        seen.append(visit)
        return visit[1:]

    layers = expert_layers(model)
    hooks = [layer.module.register_forward_pre_hook(partial(watch, place)) for place, layer in enumerate(layers)]
    yield seen
    for hook in hooks:
        hook.remove()


def backward(model: PreTrainedModel) -> dict[str, Tensor]:
    """Gradients of tokens and router weights of every expert layer, after a backward through the whole model."""
    with watched_inputs(model) as seen:
        output(model).square().mean().backward()
    gradients = {}
    for number, visit in enumerate(seen):
        gradients |= {f"tokens {number}": visit.tokens_TH.grad, f"router {number}": visit.router_TK.grad}
    return gradients


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.detach().abs().max()))


def test_no_family_is_overlooked():
    assert len(families()) >= 54, "transformers 5.17 has 54"
    if Version(transformers.__version__) >= Version("5.24"):
        assert set(families()) == CHECKED


@pytest.mark.parametrize("family", unchecked_families())
def test_a_family_that_a_newer_transformers_adds_is_listed(family):
    pytest.skip(f"{family} is not checked yet: write its recipe, if it needs one, and its name into CHECKED")


def test_a_family_without_a_name_in_the_catalog_is_not_checked_yet(tmp_path):
    for family, text in (("olmoe", SEAM), ("zorp_moe", SEAM), ("zorp_dense", "class Zorp:")):
        (tmp_path / family).mkdir()
        (tmp_path / family / f"modeling_{family}.py").write_text(text)
    assert unchecked_families(tmp_path) == ("zorp_moe",)


@pytest.mark.parametrize("family", families())
def test_the_output_has_the_bits_of_the_unmodified_model_and_is_that_of_the_familys_own_loop(family):
    model = build(family)
    before = output(model)
    with attach(model, selected(model)):
        assert torch.equal(output(model), before)
        with torch.no_grad():
            assert torch.equal(output(model), before)
    assert torch.equal(output(model), before)
    model.set_experts_implementation("eager")
    assert_close(output(model), before)


@pytest.mark.parametrize("family", families())
def test_gradients_of_slices_tokens_and_router_weights_are_the_dense_models(family):
    model = build(family)
    dense_inputs = backward(model)
    dense = {
        slice_name(Expert(layer=layer.layer, index=index), weight): row
        for layer in expert_layers(model)
        for weight in layer.weights
        for index, row in enumerate(layer.module.get_parameter(weight).grad.clone())
    }
    model.zero_grad()
    with attach(model, selected(model)) as slices:
        model.get_input_embeddings().weight.requires_grad_()  # so that the lowest experts' input needs a gradient
        inputs = backward(model)
        for name, master in slices.parameters.items():
            assert_close(master.grad, dense[name])
        assert sum(bool(master.grad.any()) for master in slices.parameters.values()) >= len(slices.parameters) / 3
    assert inputs.keys() == dense_inputs.keys()
    for name, gradient in inputs.items():
        assert_close(gradient, dense_inputs[name])
        assert gradient.any()


@pytest.mark.parametrize("family", [family for family in families() if family not in LOOPED])
def test_counts_are_the_choices_that_reached_the_experts_without_padding(family):
    model, mask = build(family), torch.ones(2, 12, dtype=torch.int64)
    mask[1, 9:] = 0
    with torch.no_grad():
        with watched_inputs(model) as seen:
            before = output(model, mask)
        with record_routing(model) as recorder:
            recorder.watch(mask.bool()[None])
            assert torch.equal(output(model, mask), before)
            counts_BRLE = recorder.counts()
    top_k = RECIPES.get(family, Recipe()).top_k
    assert [visit.place for visit in seen] == list(range(len(expert_layers(model))))
    for place, _, experts_TK, router_TK in seen:
        for row in range(2):
            kept = mask[row].bool()
            chosen_SK, weights_SK = experts_TK.view(2, 12, top_k)[row][kept], router_TK.view(2, 12, top_k)[row][kept]
            expected_E = torch.bincount(chosen_SK[weights_SK != 0], minlength=8)
            assert torch.equal(counts_BRLE[row, 0, place], expected_E)
            assert expected_E.sum() == kept.sum() * top_k


@pytest.mark.parametrize("family", sorted(LOOPED & set(families())))
def test_several_choices_of_one_token_in_a_layer_never_pass_for_one(family):
    model = build(family)
    with torch.no_grad(), record_routing(model) as recorder:
        recorder.watch(torch.ones(1, 2, 12, dtype=torch.bool))
        output(model)
        with pytest.raises(ValueError, match="do not sum to counted tokens x top-k"):
            recorder.counts()


@pytest.mark.parametrize("family", families())
def test_after_a_step_and_merge_only_the_selected_rows_differ_and_a_reload_has_the_same_bits(family, tmp_path):
    model = build(family)
    base = weights_of(model)
    experts = selected(model)
    with attach(model, experts) as slices:
        output(model).square().mean().backward()
        torch.optim.AdamW(slices.parameters.values(), lr=1e-2, weight_decay=0.1).step()
        trained = output(model)
        slices.merge()
    assert torch.equal(output(model), trained)
    merged = weights_of(model)
    banks = {f"{layer.name}.{weight}": layer.layer for layer in expert_layers(model) for weight in layer.weights}
    for name, weight in merged.items():
        if name in banks:
            moved = [not torch.equal(row, base[name][index]) for index, row in enumerate(weight)]
            assert moved == [Expert(layer=banks[name], index=index) in experts for index in range(8)]
        else:
            assert torch.equal(weight, base[name])
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM if model.config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else type(model)
    loaded, info = opened.from_pretrained(
        tmp_path, output_loading_info=True, experts_implementation=model.get_experts_implementation()
    )
    align_weights(loaded)
    assert type(loaded) is type(model)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert same_bits(weights_of(loaded), merged)
    assert torch.equal(output(loaded.eval()), trained)


@pytest.mark.parametrize("family", families())
def test_expert_parallel_sentinels_are_treated_as_transformers_own_function_does(family):
    model = build(family)
    layer = expert_layers(model)[0]
    if not hasattr(layer.module, "_is_expert_parallel"):
        pytest.skip("this transformers has no flag for expert parallel")
    layer.module._is_expert_parallel = True
    torch.manual_seed(1)
    tokens_TH, router_TK = torch.randn(6, 32, requires_grad=True), torch.rand(6, 2)
    experts_TK = torch.tensor([[0, 8], [1, 3], [8, 8], [1, 0], [8, 3], [1, 2]])  # 8: another card's expert
    router_TK = router_TK.masked_fill(experts_TK == 8, 0.0).requires_grad_()
    inputs = (tokens_TH, router_TK)
    expected_TH = layer.module(tokens_TH, experts_TK, router_TK)
    weights = [layer.module.get_parameter(weight) for weight in layer.weights]
    dense = torch.autograd.grad(expected_TH.square().sum(), [*inputs, *weights])
    with attach(model, [Expert(layer=layer.layer, index=1)]) as slices:
        out_TH = layer.module(tokens_TH, experts_TK, router_TK)
        assert torch.equal(out_TH, expected_TH)
        found = torch.autograd.grad(out_TH.square().sum(), [*inputs, *slices.parameters.values()])
    for gradient, expected in zip(found, [*dense[:2], *(weight[1] for weight in dense[2:])], strict=True):
        assert_close(gradient, expected)
    assert not found[1][experts_TK == 8].any()


def test_a_token_that_skips_the_experts_is_counted_for_none():
    """zaya sends it to expert 0 with the weight 0."""
    if "zaya" not in families():
        pytest.skip("this transformers has no family that skips")
    model, everything = build("zaya"), torch.ones(1, 2, 12, dtype=torch.bool)
    model.model.layers[0].mlp.gate.balancing_biases[-1] = 9.0  # every token of the first layer skips
    with torch.no_grad(), watched_inputs(model) as seen, record_routing(model) as recorder:
        recorder.watch(everything)
        output(model)
        counts_BRLE = recorder.counts()
    assert not seen[0].experts_TK.any() and not seen[0].router_TK.any()
    assert counts_BRLE.sum((0, 1, 3)).tolist() == [0, 24]
