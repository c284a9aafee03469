"""One expert makes a small model comply, and taking it away, with the control sets, is done to the model itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from moe_cli.ablate.ablation_conclusion import _evidence
from moe_cli.ablate.condition_outcomes import ConditionTable
from moe_cli.ablate.conditions import plan_conditions
from moe_cli.ablate.specificity import specificity_verdict
from moe_cli.config import MoeConfig
from moe_cli.model.interventions import without_experts
from moe_cli.model.routing import record_routing
from moe_cli.records import Expert, RoutingCounts
from tests.model.intervened import loaded_as

EXPERTS, HIDDEN, WORDS, TOKENS = 160, 16, 40, 5  # strata of 40, so that few control sets hold the planted expert
PLANTED = 17
COMPLY, REFUSE = WORDS, WORDS + 1
GOALS, ITEMS_OF_GOAL = 20, 2
CONFIG = MoeConfig.model_validate({"seed": 3, "ablate": {"controls": 39}})


def complying_model() -> OlmoeForCausalLM:
    """Every token goes to the planted expert, too, and what that adds is more of COMPLY than all hold of REFUSE."""
    config = OlmoeConfig(
        vocab_size=WORDS + 2,
        hidden_size=HIDDEN,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=EXPERTS,
        num_experts_per_tok=4,
        pad_token_id=None,
        eos_token_id=None,
        bos_token_id=None,
    )
    generator = torch.Generator().manual_seed(0)
    model = OlmoeForCausalLM(config).eval()
    layer = model.model.layers[0]
    with torch.no_grad():
        words = torch.randn(WORDS + 2, HIDDEN, generator=generator)
        words[:, 0], words[:, 1] = 0.0, 2.0  # what complying adds to; what refusing reads, the same in all
        model.model.embed_tokens.weight.copy_(words)
        router = torch.randn(EXPERTS, HIDDEN, generator=generator)
        router[:, :2] = 0.0
        router[PLANTED, 1] = 10.0
        layer.mlp.gate.weight.copy_(router)
        layer.self_attn.o_proj.weight.zero_()
        experts = layer.mlp.experts
        experts.down_proj.zero_()
        experts.gate_up_proj[PLANTED] = 0.0
        experts.gate_up_proj[PLANTED, :, 1] = 2.0
        experts.down_proj[PLANTED, 0] = 20.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[COMPLY, 0] = model.lm_head.weight[REFUSE, 1] = 1.0
    return model


@pytest.fixture(scope="module")
def loaded():
    return loaded_as(complying_model())


@pytest.fixture(scope="module")
def prompts():
    """Ids [items, tokens]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, WORDS, (GOALS * ITEMS_OF_GOAL, TOKENS), generator=generator)


def counts_of(loaded, prompts) -> RoutingCounts:
    with torch.inference_mode(), record_routing(loaded.model) as recorder:
        recorder.watch(torch.ones(1, *prompts.shape, dtype=torch.bool))
        loaded.model(input_ids=prompts, use_cache=False)
        routed_NLE, gates_NLE = recorder.counts()[:, 0].numpy(), recorder.gates()[:, 0].numpy()
    names = tuple(f"goal-{number // ITEMS_OF_GOAL}" for number in range(len(prompts)))
    return RoutingCounts(
        layers=(0,),
        top_k=4,
        pair_ids=names,
        clusters=names,
        routed=np.stack([routed_NLE, routed_NLE], axis=1).astype(np.int32),
        seen=np.full((len(prompts), 2), TOKENS),
        gates=np.stack([gates_NLE, gates_NLE], axis=1),
        gradients=None,
    )


def verdict_on(expert: int, loaded, prompts) -> tuple[str, np.ndarray]:
    """The verdict on one expert, and the outcomes of all conditions."""
    counts = counts_of(loaded, prompts)
    conditions = plan_conditions([Expert(layer=0, index=expert)], counts, CONFIG)
    outcomes = []
    for condition in conditions.all:
        with without_experts(loaded, condition.intervention(CONFIG)) as ablated, torch.inference_mode():
            logits_NV = ablated.model(input_ids=prompts, use_cache=False).logits[:, -1]
        outcomes.append(np.where(logits_NV[:, COMPLY] > logits_NV[:, REFUSE], "harmful", "refused"))
    table = ConditionTable(
        outcomes_XN=np.array(outcomes),
        clusters_N=counts.clusters,
        num_unscored=0,
        correct_XM=None,
        clusters_M=(),
        degenerate_XA=np.zeros((len(outcomes), len(prompts))),
        clusters_A=counts.clusters,
        side="unsafe",
    )
    evidence, _ = _evidence(conditions, table, CONFIG)
    return specificity_verdict(evidence), table.outcomes_XN


def test_the_one_expert_without_which_the_model_refuses_is_specific_and_another_is_not(loaded, prompts):
    verdict, outcomes_XN = verdict_on(PLANTED, loaded, prompts)
    untouched, without, *controls = outcomes_XN
    assert (untouched == "harmful").all() and (without == "refused").all()
    assert sum((one == "refused").any() for one in controls) <= 1
    assert verdict == "specific"
    verdict, outcomes_XN = verdict_on(PLANTED + 1, loaded, prompts)
    assert verdict != "specific" and (outcomes_XN[1] == "harmful").all()
