"""An intervention does what its name says, at the tokens it is for, and is known by an identity of its own."""

from __future__ import annotations

import pytest
import torch

from moe_cli.config import ModelConfig
from moe_cli.errors import UsageError
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import TransformersEngine, greedy
from moe_cli.model.interventions import mean_outputs, without_experts
from moe_cli.model.load import load_model
from moe_cli.model.topology import expert_layers, experts_computed_by, experts_function
from moe_cli.records import Expert, Message
from moe_cli.records.ablation import Intervention, Steering
from tests.experts.families import FAMILIES
from tests.experts.steps import token_ids
from tests.model.intervened import loaded_as

torch.set_num_threads(1)

EXPERTS = (Expert(layer=0, index=2), Expert(layer=0, index=5), Expert(layer=1, index=2))


def removal(kind, tokens="all", experts=EXPERTS, **changes) -> Intervention:
    return Intervention(experts=experts, kind=kind, tokens=tokens, **changes)


def output(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=token_ids(3, 9), use_cache=False).logits


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss"])
def test_zero_is_the_model_whose_experts_give_nothing(family):
    model = FAMILIES[family]()
    with without_experts(loaded_as(model), removal("zero")):
        masked = output(model)
    for layer in expert_layers(model):
        for expert in EXPERTS:
            if expert.layer == layer.layer:
                for name, weight in layer.module.named_parameters():
                    if "down_proj" in name:
                        weight.data[expert.index] = 0
    assert torch.allclose(masked, output(model), rtol=0, atol=1e-6)


def test_mean_puts_the_mean_output_of_the_tokens_that_chose_the_expert_in_its_place():
    model = FAMILIES["olmoe"]()
    loaded, ids = loaded_as(model), token_ids(3, 9)
    layers = expert_layers(model)
    means = mean_outputs(loaded, ids.tolist(), EXPERTS)
    before = [experts_function(layer) for layer in layers]
    seen = {}

    def by_hand(module, hidden, indices, weights):
        """One token and choice at a time."""
        place = [layer.module for layer in layers].index(module)
        seen.setdefault(place, []).append((hidden.clone(), indices.clone()))
        out = torch.zeros_like(hidden)
        for token in range(len(hidden)):
            for k in range(indices.shape[1]):
                expert = int(indices[token, k])
                if Expert(layer=layers[place].layer, index=expert) in EXPERTS:
                    out[token] += weights[token, k] * means[place][expert]
                else:
                    token_1, choice_1 = slice(token, token + 1), slice(k, k + 1)
                    chosen = indices[token_1, choice_1], weights[token_1, choice_1]
                    one = before[place](module, hidden[token_1], *chosen)
                    out[token] += one[0]
        return out

    with without_experts(loaded, removal("mean"), means):
        masked = output(model)
    with experts_computed_by(model, by_hand):
        expected = output(model)
    assert torch.allclose(masked, expected, rtol=0, atol=1e-5)
    for expert in EXPERTS[:2]:  # of the first layer, whose tokens no intervention has changed
        hidden, indices = seen[0][0]
        chosen = (indices == expert.index).any(-1)
        ones = torch.ones(int(chosen.sum()), 1)
        alone = torch.full((int(chosen.sum()), 1), expert.index)
        of_expert = before[0](layers[0].module, hidden[chosen], alone, ones)
        assert torch.allclose(means[0][expert.index], of_expert.mean(0), atol=1e-6)
    assert not means[0][0].any()


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("kind", ["reroute", "zero"])
def test_taking_away_no_expert_is_the_model_itself(kind, replay):
    loaded = loaded_as(FAMILIES["olmoe"]())
    before = output(loaded.model)
    with without_experts(loaded, removal(kind, experts=(), without_router_effects=replay)) as same:
        assert same is loaded
        assert torch.equal(output(loaded.model), before)


def test_the_identity_is_that_of_the_set_and_of_what_is_done_in_any_order():
    digests = {
        removal(kind, tokens, experts, without_router_effects=replay).digest
        for kind in ("reroute", "zero", "mean")
        for tokens in ("all", "prompt", "answer")
        for experts in (EXPERTS, EXPERTS[:2], EXPERTS[1:])
        for replay in (False, True)
    }
    assert len(digests) == 54
    assert removal("zero", experts=EXPERTS[::-1]).digest == removal("zero").digest
    steering = Steering(activate=EXPERTS[:2], deactivate=EXPERTS[2:], epsilon=0.01)
    assert Steering(activate=EXPERTS[1::-1], deactivate=EXPERTS[2:], epsilon=0.01).digest == steering.digest
    assert Steering(activate=EXPERTS[2:], deactivate=EXPERTS[:2], epsilon=0.01).digest != steering.digest
    loaded = loaded_as(FAMILIES["olmoe"]())
    with without_experts(loaded, removal("zero")) as one, without_experts(loaded, removal("reroute")) as other:
        assert len({loaded.identity.fingerprint, one.identity.fingerprint, other.identity.fingerprint}) == 3


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ((Expert(layer=0, index=8),), "no expert 8 in layer 0"),
        ((Expert(layer=7, index=0),), "no expert 0 in layer 7"),
        (tuple(Expert(layer=0, index=index) for index in range(7)), "layer 0 has fewer than the 2"),
    ],
)
def test_experts_that_cannot_be_taken_away_are_refused(experts, message):
    with (
        pytest.raises(UsageError, match=message),
        without_experts(loaded_as(FAMILIES["olmoe"]()), removal("reroute", experts=experts)),
    ):
        pass


def answers(loaded, batch_size=3) -> dict[str, tuple[int, ...]]:
    prompts = [
        Prompt(f"p{number}", (Message(role="user", content=text),))
        for number, text in enumerate(("Tell me about the sea.", "Count from 1 to 5.", "Say hello."))
    ]
    engine = TransformersEngine(loaded, greedy(max_new_tokens=20, batch_size=batch_size))
    return {answer.prompt_id: answer.token_ids for group in engine.answers(prompts) for answer in group}


def test_an_intervention_on_answers_alone_begins_after_the_prompt():

    loaded = load_model(ModelConfig(name="tiny", threads=1))
    experts = tuple(Expert(layer=layer, index=index) for layer in range(4) for index in range(0, 16, 3))
    made = {}
    for tokens in ("prompt", "answer", "all"):
        with without_experts(loaded, removal("zero", tokens, experts)) as without:
            made[tokens] = answers(without)
            assert answers(without, batch_size=1) == made[tokens]
    base = answers(loaded)
    assert len({str(made[tokens]) for tokens in made} | {str(base)}) == 4
    first = {name: ids[0] for name, ids in base.items()}
    assert {name: ids[0] for name, ids in made["answer"].items()} == first  # the first token comes of the prompt alone


def test_a_model_without_a_cache_cannot_tell_prompt_from_answer():
    loaded = loaded_as(FAMILIES["olmoe"]())
    with without_experts(loaded, removal("zero", "answer")), pytest.raises(UsageError, match="keeps no cache"):
        output(loaded.model)
