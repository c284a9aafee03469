"""Without router effects every router decides as in the model as it is, on the same tokens and in every cache."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from moe_cli.config import ModelConfig
from moe_cli.errors import UsageError
from moe_cli.model import decoding
from moe_cli.model.chat import encode_prompt
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.interventions import without_experts
from moe_cli.model.load import load_model
from moe_cli.model.routing import record_routing
from moe_cli.model.topology import expert_layers, experts_computed_by, experts_function, router_module
from moe_cli.records import Expert, Message
from moe_cli.records.ablation import Intervention
from tests.experts.catalog import build
from tests.experts.steps import token_ids
from tests.model.intervened import loaded_as
from tests.model.test_router_seam import DELETED, most_used, output, without_rows

torch.set_num_threads(1)


def replayed(experts, kind="reroute", tokens="all", *, without_router_effects=True) -> Intervention:
    return Intervention(experts=tuple(experts), kind=kind, tokens=tokens, without_router_effects=without_router_effects)


def with_strong_experts(family: str) -> nn.Module:
    """A model whose experts give so much that what one layer does changes the next one's routing."""
    model = build(family)
    for layer in expert_layers(model):
        for name, weight in layer.module.named_parameters():
            if "down" in name:
                weight.data *= 20
    return model


def choices(model: nn.Module) -> tuple[torch.Tensor, ...]:
    with record_routing(model, keep_choices=True) as recorder, torch.no_grad():
        recorder.watch(torch.ones(1, 3, 9, dtype=torch.bool))
        model(input_ids=token_ids(3, 9), use_cache=False)
        return recorder.choices()  # of the last forward: the one with the intervention


def inputs_and_outputs_of_routers(model: nn.Module) -> list[tuple]:
    """What every router gets and gives, of the model as it is."""
    seen, hooks = [], []
    for layer in expert_layers(model):
        hooks.append(router_module(model, layer).register_forward_hook(lambda _, args, out: seen.append((args, out))))
    output(model)
    for hook in hooks:
        hook.remove()
    return seen


@contextmanager
def giving(model: nn.Module, outputs: list[tuple]):
    """The routers give these outputs, whatever they get."""
    hooks = [
        router_module(model, layer).register_forward_hook(lambda *_, given=given: given)
        for layer, given in zip(expert_layers(model), outputs, strict=True)
    ]
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("family", DELETED)
def test_it_is_two_forwards_by_hand(family, num_layers):
    """The second has the first one's routers; in a layer of S a router of fewer rows, on the first one's tokens."""
    model = with_strong_experts(family)
    layers = expert_layers(model)
    experts = most_used(model, list(range(num_layers)))
    kept_LE = [
        [index for index in range(8) if Expert(layer=layer.layer, index=index) not in experts][:6] for layer in layers
    ]
    smaller = without_rows(model, family, kept_LE)
    routing = []
    for place, (args, given) in enumerate(inputs_and_outputs_of_routers(model)):
        if place < num_layers:
            logits, weights, indices = router_module(smaller, expert_layers(smaller)[place])(*args)
            routing.append((logits, weights, torch.tensor(kept_LE[place])[indices]))
        else:
            routing.append(given)
    with giving(model, routing):
        by_hand = output(model)
    with without_experts(loaded_as(model), replayed(experts)):
        assert torch.allclose(output(model), by_hand, rtol=0, atol=1e-6 * max(1.0, by_hand.abs().max().item()))
    with without_experts(loaded_as(model), replayed(experts, without_router_effects=False)):
        assert not torch.allclose(output(model), by_hand, rtol=0, atol=1e-4)  # so the test can tell


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "deepseek_v3"])
def test_with_zero_only_the_weights_of_the_experts_go(family):
    model = with_strong_experts(family)
    experts = most_used(model, [0, 1])
    layers = expert_layers(model)
    given = [out for _, out in inputs_and_outputs_of_routers(model)]
    before = [experts_function(layer) for layer in layers]

    def by_hand(module, hidden, indices, weights):
        place = [layer.module for layer in layers].index(module)
        _, base_weights, base_indices = given[place]
        gone = [expert.index for expert in experts if expert.layer == layers[place].layer]
        base_weights = base_weights * ~torch.isin(base_indices, torch.tensor(gone))
        return before[place](module, hidden, base_indices, base_weights)

    with experts_computed_by(model, by_hand):
        expected = output(model)
    with without_experts(loaded_as(model), replayed(experts, "zero")):
        assert torch.allclose(output(model), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["olmoe", "mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3", "deepseek_v4"])
def test_layers_without_masked_experts_choose_exactly_as_in_the_model_as_it_is(family):
    model = with_strong_experts(family)
    loaded, before = loaded_as(model), choices(model)
    masked = 1 if family == "deepseek_v4" else 0  # its first layer chooses by the token's id
    experts = most_used(model, [masked])
    with without_experts(loaded, replayed(experts)):
        with_replay = choices(model)
    with without_experts(loaded, replayed(experts, "zero")):
        with_zero = choices(model)
    with without_experts(loaded, replayed(experts, without_router_effects=False)):
        without_replay = choices(model)
    gone = torch.tensor([expert.index for expert in experts])
    assert torch.equal(with_replay[1 - masked], before[1 - masked])
    assert not torch.isin(with_replay[masked], gone).any()
    assert torch.isin(before[masked], gone).any()
    assert torch.equal(with_zero[1 - masked], before[1 - masked])
    if masked == 0:
        assert not torch.equal(without_replay[1], before[1])


@pytest.fixture(scope="module")
def tiny():
    return load_model(ModelConfig(name="tiny", threads=1))


EXPERTS = tuple(Expert(layer=layer, index=index) for layer in range(4) for index in range(0, 16, 3))
PROMPTS = [
    Prompt(f"p{number}", (Message(role="user", content=text),))
    for number, text in enumerate(("Tell me about the sea.", "Count from 1 to 5.", "Say hello."))
]


def answers(loaded, batch_size=3) -> dict[str, tuple[int, ...]]:
    engine = TransformersEngine(loaded, greedy(max_new_tokens=40, batch_size=batch_size))
    return {answer.prompt_id: answer.token_ids for group in engine.answers(PROMPTS) for answer in group}


@pytest.mark.parametrize("kind", ["reroute", "zero"])
def test_an_answer_is_that_of_whole_forwards_without_a_cache_in_any_batch(tiny, kind, monkeypatch):
    left, keep = [], decoding._Rows.keep
    monkeypatch.setattr(decoding._Rows, "keep", lambda rows, places: left.append(rows.num_made) or keep(rows, places))
    monkeypatch.setattr(decoding, "CHUNK", 2)
    with without_experts(tiny, replayed(EXPERTS, kind)) as without:
        made = answers(without)
        assert left  # rows left while others went on
        assert answers(without, batch_size=1) == made
        for prompt in PROMPTS:
            ids = encode_prompt(tiny.tokenizer, prompt.messages)
            whole = torch.tensor([[*ids, *made[prompt.id]]])
            with torch.no_grad():
                likeliest = without.model(input_ids=whole, use_cache=False).logits[0, len(ids) - 1 : -1].argmax(-1)
            assert tuple(likeliest.tolist()) == made[prompt.id]


def test_an_intervention_on_answers_alone_leaves_the_prompt_as_it_is(tiny):
    base = answers(tiny)
    with without_experts(tiny, replayed(EXPERTS, "zero", "answer")) as without:
        made = answers(without)
    with without_experts(tiny, replayed(EXPERTS, "zero", "answer", without_router_effects=False)) as without:
        assert len({str(one) for one in (base, made, answers(without))}) == 3
    assert {name: ids[0] for name, ids in made.items()} == {name: ids[0] for name, ids in base.items()}
    assert answers(tiny) == base


def test_a_router_that_decides_by_more_than_its_logits_is_refused_by_name():
    model = build("olmoe")
    router = router_module(model, expert_layers(model)[1])
    hook = router.register_forward_hook(
        lambda _, args, out: (out[0], out[1] * args[0].abs().sum(-1, keepdim=True), out[2])
    )
    with (
        pytest.raises(UsageError, match=r"layers \[1\] of OlmoeForCausalLM .* more than the routers' logits"),
        without_experts(loaded_as(model), replayed(most_used(model, [0]))),
    ):
        pass
    hook.remove()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    with without_experts(loaded_as(model), replayed(most_used(model, [0]))):
        output(model)
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()] == hooks


def test_a_model_that_makes_its_cache_by_itself_is_refused_by_name():
    model = build("minimax")
    config = GenerationConfig(max_new_tokens=2, do_sample=False, eos_token_id=None, pad_token_id=0)
    with (
        pytest.raises(UsageError, match="MiniMaxForCausalLM makes its cache by itself"),
        without_experts(loaded_as(model), replayed(most_used(model, [0]))),
    ):
        model.generate(input_ids=token_ids(3, 9), generation_config=config)
