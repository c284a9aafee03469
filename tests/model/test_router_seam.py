"""Every family lets its routers be read, masked and steered, and a masked model is the model without those experts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moe_cli.errors import UsageError
from moe_cli.model.interventions import refuse_fixed_routing, steered, top_k_of, without_experts
from moe_cli.model.masked_experts import SteeredRouter
from moe_cli.model.router_seam import router_seam
from moe_cli.model.routing import record_routing
from moe_cli.model.topology import expert_layers, router_module
from moe_cli.records import Expert
from moe_cli.records.ablation import Intervention, Steering
from tests.experts.catalog import LOOPED, build, families
from tests.experts.families import FAMILIES
from tests.experts.steps import token_ids
from tests.model.intervened import loaded_as

torch.set_num_threads(1)

SEEN = [family for family in families() if family not in LOOPED]
HASHED = {"deepseek_v4": [0]}  # layers whose experts are given by the token's id
DELETED = {  # the size of the bank in the config of a family
    "olmoe": "num_experts",
    "mixtral": "num_local_experts",
    "qwen3_moe": "num_experts",
    "gpt_oss": "num_local_experts",
    "deepseek_v3": "n_routed_experts",
}


class Reader:
    """Keeps the logits and changes nothing."""

    def __init__(self) -> None:
        self.logits_of: dict[int, torch.Tensor] = {}
        self.num_scores = 0

    def logits(self, index: int, logits_TC: torch.Tensor) -> torch.Tensor:
        self.logits_of[index] = logits_TC
        return logits_TC

    def scores(self, index: int, scores_TC: torch.Tensor) -> torch.Tensor:
        self.num_scores += 1
        return scores_TC


def output(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result = model(input_ids=token_ids(3, 9), use_cache=False)
    return result.logits if "logits" in result else result.last_hidden_state


def choosing(model: nn.Module, family: str) -> list[int]:
    """Indices of the layers in which a router chooses."""
    return [index for index, _ in enumerate(expert_layers(model)) if index not in HASHED.get(family, [])]


def most_used(model: nn.Module, layers: list[int]) -> list[Expert]:
    with record_routing(model) as recorder, torch.no_grad():
        recorder.watch(torch.ones(1, 3, 9, dtype=torch.bool))
        model(input_ids=token_ids(3, 9), use_cache=False)
        counts_LE = recorder.counts().sum((0, 1))
    named = expert_layers(model)
    return [
        Expert(layer=named[index].layer, index=expert)
        for index in layers
        for expert in counts_LE[index].argsort(descending=True, stable=True)[:2].tolist()
    ]


@pytest.mark.parametrize("family", SEEN)
def test_reading_a_router_changes_no_bit_and_gives_one_differentiable_logit_for_each_expert(family):
    model, reader = build(family), Reader()
    before = output(model)
    with router_seam(model, reader):
        assert torch.equal(output(model), before)
        model(input_ids=token_ids(3, 9), use_cache=False)
    for index, layer in enumerate(expert_layers(model)):
        logits_TC = reader.logits_of[index]
        assert logits_TC.shape[-1] in (layer.num_experts, layer.num_experts + 1)
        logits_TC.float().square().sum().backward(retain_graph=True)
        with_gradient = [weight for weight in router_module(model, layer).parameters() if weight.grad is not None]
        assert any(weight.grad.abs().sum() > 0 for weight in with_gradient)


@pytest.mark.parametrize("family", SEEN)
def test_masked_experts_get_no_token_and_others_are_chosen_in_their_place(family):
    model = build(family)
    loaded = loaded_as(model)
    before, top_k = output(model), top_k_of(model)
    experts = most_used(model, choosing(model, family))
    with without_experts(loaded, Intervention(experts=tuple(experts), kind="reroute", tokens="all")) as without:
        with record_routing(model) as recorder, torch.no_grad():
            recorder.watch(torch.ones(1, 3, 9, dtype=torch.bool))
            model(input_ids=token_ids(3, 9), use_cache=False)
            counts_LE = recorder.counts().sum((0, 1))
        after = output(model)
    index_of = {layer.layer: index for index, layer in enumerate(expert_layers(model))}
    assert all(counts_LE[index_of[expert.layer], expert.index] == 0 for expert in experts)
    if family != "zaya":  # a token that skips the experts has no weight, and is not counted
        assert all(counts_LE[index].sum() == 27 * top_k[index] for index in choosing(model, family))
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    assert torch.equal(output(model), before)
    assert without.identity.fingerprint != loaded.identity.fingerprint


@pytest.mark.parametrize("family", sorted(HASHED.keys() & set(SEEN)))
def test_layers_that_choose_by_token_id_are_refused_by_name(family):
    model = build(family)
    before = output(model)
    expert = Expert(layer=expert_layers(model)[HASHED[family][0]].layer, index=3)
    intervention = Intervention(experts=(expert,), kind="reroute", tokens="all")
    with (
        pytest.raises(UsageError, match=r"layers \[0\].*no router chooses"),
        without_experts(loaded_as(model), intervention),
    ):
        pass
    steering = Steering(activate=(expert,), deactivate=(), epsilon=0.01)
    with pytest.raises(UsageError, match="no router chooses"), steered(loaded_as(model), steering):
        pass
    assert torch.equal(output(model), before)


def without_rows(model: nn.Module, family: str, kept_LE: list[list[int]]) -> nn.Module:
    """A model of fewer experts: those of `kept_LE`, with their rows of the router."""
    config = copy.deepcopy(model.config)
    setattr(config, DELETED[family], len(kept_LE[0]))
    smaller = type(model)(config).eval()
    state = dict(model.state_dict())
    for layer, kept_E in zip(expert_layers(model), kept_LE, strict=True):
        block = layer.name.rpartition(".")[0]
        for name in [name for name in state if name.startswith(f"{block}.")]:
            holder = name.removeprefix(f"{block}.").partition(".")[0]
            if holder in ("experts", "gate", "router") and state[name].shape[0] == layer.num_experts:
                state[name] = state[name][kept_E]
    smaller.load_state_dict(state)
    smaller.set_experts_implementation("grouped_mm")
    return smaller


@pytest.mark.parametrize("family", DELETED)
def test_a_masked_model_is_the_model_with_these_experts_and_their_router_rows_deleted(family):
    model = build(family)
    experts = most_used(model, choosing(model, family))
    kept_LE = [
        [index for index in range(8) if Expert(layer=layer.layer, index=index) not in experts]
        for layer in expert_layers(model)
    ]
    smaller = without_rows(model, family, kept_LE)
    with without_experts(loaded_as(model), Intervention(experts=tuple(experts), kind="reroute", tokens="all")):
        masked = output(model)
    assert torch.allclose(masked, output(smaller), rtol=0, atol=1e-6 * max(1.0, masked.abs().max().item()))


@pytest.mark.parametrize("family", ["olmoe", "mixtral", "qwen3_moe", "gpt_oss"])
def test_steering_is_the_published_formula(family):
    """SteerMoE: scores are log softmax(z); activated max + eps, deactivated min - eps; then softmax and top-k."""
    model = build(family)
    layers = expert_layers(model)
    up = tuple(Expert(layer=layer.layer, index=1) for layer in layers)
    down = tuple(Expert(layer=layer.layer, index=5) for layer in layers)
    originals = [router_module(model, layer) for layer in layers]
    with steered(loaded_as(model), Steering(activate=up, deactivate=down, epsilon=0.01)):
        through_seam = output(model)

    def published(router: nn.Module):
        def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
            scores = torch.log_softmax(inputs @ weight.T + (0 if bias is None else bias), dim=-1)
            highest, lowest = scores.max(-1).values, scores.min(-1).values
            scores[..., 1], scores[..., 5] = highest + 0.01, lowest - 0.01
            return scores

        forward = router.forward

        def patched(*args, **kwargs):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch.nn.functional, "linear", linear)
                return forward(*args, **kwargs)

        return patched

    with pytest.MonkeyPatch.context() as patch:
        for router in originals:
            patch.setattr(router, "forward", published(router))
        by_hand = output(model)
    assert not torch.equal(by_hand, output(model))
    assert torch.allclose(through_seam, by_hand, rtol=0, atol=1e-6)


def test_nothing_stays_on_the_model_after_an_error():
    model = FAMILIES["olmoe"]()
    before, hooks = output(model), [len(module._forward_hooks) for module in model.modules()]

    class Failing(Reader):
        def logits(self, index: int, logits_TC: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("in a router")

    with pytest.raises(RuntimeError, match="in a router"), router_seam(model, Failing()):
        output(model)
    with (
        pytest.raises(KeyError),
        without_experts(loaded_as(model), Intervention(experts=(Expert(layer=0, index=1),), kind="zero", tokens="all")),
    ):
        raise KeyError
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert torch.equal(output(model), before)
    assert len(torch.overrides._get_current_function_mode_stack()) == 0


def test_a_router_that_maps_to_its_logits_twice_is_refused():
    model = FAMILIES["olmoe"]()
    router = router_module(model, expert_layers(model)[0])
    forward = router.forward

    def twice(hidden):
        forward(hidden)
        return forward(hidden)

    router.forward = twice
    with pytest.raises(UsageError, match=r"layer 0 of .* maps 2 times"), router_seam(model, Reader()):
        output(model)


def test_a_model_without_a_router_module_is_refused():
    model = FAMILIES["olmoe"]()
    layer = expert_layers(model)[0]
    block = model.get_submodule(layer.name.rpartition(".")[0])
    block.chooser = block.gate
    del block.gate
    with pytest.raises(UsageError, match="no router module beside"):
        router_module(model, layer)


def test_refusing_fixed_routing_looks_only_at_the_layers_asked_for():
    if "deepseek_v4" not in SEEN:
        pytest.skip("this release has no DeepSeek-V4")
    model = build("deepseek_v4")
    refuse_fixed_routing(model, torch.tensor([False, True]).numpy())
    with pytest.raises(UsageError):
        refuse_fixed_routing(model, torch.tensor([True, True]).numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_steered_expert_is_above_or_below_all_others_in_every_dtype(dtype):
    layers = expert_layers(build("olmoe"))
    up, down = Expert(layer=layers[0].layer, index=1), Expert(layer=layers[0].layer, index=5)
    router = SteeredRouter(Steering(activate=(up,), deactivate=(down,), epsilon=0.01), layers)
    generator = torch.Generator().manual_seed(0)
    logits_TC = (30 * torch.randn(500, layers[0].num_experts, generator=generator)).to(dtype)
    others = [index for index in range(layers[0].num_experts) if index not in (1, 5)]
    steered_TC = router.logits(0, logits_TC)
    assert steered_TC.dtype == dtype and torch.equal(steered_TC[:, others], logits_TC[:, others])
    assert (steered_TC[:, 1:2] > logits_TC).all() and (steered_TC[:, 5:6] < logits_TC).all()
