"""Router drift at harmful prompts: the last token of each prompt, both models, whole clusters, and reasons for none."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from moe_cli.artifacts.journal import Journal
from moe_cli.codec import decode, encode
from moe_cli.config import MoeConfig
from moe_cli.errors import NumericError
from moe_cli.evaluate import model_drift
from moe_cli.evaluate.prompt_drift import (
    harmful_prompts,
    measure_prompt_drift,
    summarise_prompt_drift,
    unread_routers,
)
from moe_cli.model.chat import encode_prompt
from moe_cli.model.interventions import steered
from moe_cli.records import Expert, Progress, PromptDrift, PromptDriftItem
from moe_cli.records.ablation import Steering
from moe_cli.tiny.language import tiny_items
from tests.evaluate.two_models import moved, tiny


@pytest.fixture(scope="module")
def models():
    return tiny(), moved(by=0.02)


def prompts(num=3):
    return harmful_prompts(tiny_items(num, seed=0))


def measured(base, tuned, items, *, done=(), batch_size=8, notify=lambda _: None):
    groups = measure_prompt_drift(
        base, tuned, items, done=done, batch_size=batch_size, batch_tokens=None, notify=notify
    )
    return {item.id: item for group in groups for item in group}


def distributions(loaded, item):
    """p [L, E] in float64 of one prompt alone, from the logits that the gates return."""
    ids, seen = encode_prompt(loaded.tokenizer, item.messages), []
    hooks = [
        layer.mlp.gate.register_forward_hook(lambda _, __, output: seen.append(output[0][-1].double()))
        for layer in loaded.model.model.layers
    ]
    with torch.no_grad():
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen).softmax(-1).numpy()


def test_the_drift_of_each_prompt_is_that_of_its_last_token_alone_in_any_batch(models):
    items = prompts()
    found = measured(*models, items)
    assert found.keys() == {item.id for item in items}
    assert {item.suite for item in items} == {"harmful", "attacked", "attacked_new_wrapper", "attacked_new_words"}
    for item in items:
        p_LE, q_LE = (distributions(loaded, item) for loaded in models)
        assert found[item.id].kl == pytest.approx(entropy(p_LE, q_LE, axis=1), abs=1e-6)
        assert (found[item.id].cluster, found[item.id].unread) == (item.cluster, None)
        assert min(found[item.id].kl) > 1e-4
    for batch_size in (1, 5):
        other = measured(*models, items, batch_size=batch_size)
        for name, item in found.items():
            assert other[name].kl == pytest.approx(item.kl, abs=1e-6)


def test_the_base_is_at_no_distance_from_itself(models):
    base, _ = models
    assert {kl for item in measured(base, tiny(), prompts()).values() for kl in item.kl} == {0.0}


def test_a_model_whose_experts_alone_moved_drifts_after_the_first_layer_and_one_whose_router_moved_in_it(models):
    base, items = models[0], prompts()
    experts = measured(base, moved("mlp.experts"), items).values()
    assert all(item.kl[0] == 0.0 and min(item.kl[1:]) > 0.0 for item in experts)
    assert all(item.kl[0] > 0.0 for item in measured(base, moved("layers.0.mlp.gate"), items).values())


def test_what_is_done_is_not_measured_again_and_changes_no_bit_of_the_rest(models):
    items, told = prompts(), []
    whole = measured(*models, items, batch_size=4)
    done = [item.id for item in items[::2]]
    rest = measured(*models, items, done=done, batch_size=4, notify=told.append)
    assert rest == {name: item for name, item in whole.items() if name not in done}
    assert told[-1] == Progress(task="drift at harmful prompts", done=len(items), total=len(items))


def test_only_harmful_prompts_count_and_each_once_however_often_it_is_answered():
    items = tiny_items(2, seed=0)
    repeated = [replace(item, id=f"{item.id}#2") for item in items if item.kind != "text"]
    found = harmful_prompts([*items, *repeated])
    assert found == tuple(item for item in items if item.kind == "harmful")
    assert len(found) == 8


def test_a_steered_router_drifts_as_it_is_steered(models):
    base = models[0]
    steering = Steering(activate=(Expert(layer=0, index=3),), deactivate=(), epsilon=5.0)
    with steered(tiny(), steering) as tuned:
        found = measured(base, tuned, prompts())
    assert all(item.kl[0] > 0.5 for item in found.values())
    assert {kl for item in measured(base, tiny(), prompts()).values() for kl in item.kl} == {0.0}


def test_a_router_still_counts_as_choosing_where_steering_leaves_no_room_for_another_expert(models):
    base, tuned = models[0], tiny()
    up = tuple(Expert(layer=0, index=index) for index in range(base.model.config.num_experts_per_tok))
    for layer in tuned.model.model.layers:
        layer.mlp.gate.norm_topk_prob = True
    with steered(tuned, Steering(activate=up, deactivate=(), epsilon=5.0)) as steered_model:
        found = measured(base, steered_model, prompts())
    assert all(item.kl[0] > 0.5 for item in found.values())


def test_routers_that_are_not_finite_are_an_error_that_names_the_prompt(models):
    broken = moved()
    with torch.no_grad():
        broken.model.model.layers[1].mlp.gate.weight[0, 0] = torch.nan
    with pytest.raises(NumericError, match=r"distributions at the prompt .* are not finite"):
        measured(models[0], broken, prompts())


def without_router():
    loaded = tiny()
    for layer in loaded.model.model.layers:
        layer.mlp.decides = layer.mlp.gate
        del layer.mlp.gate
    return loaded


def test_a_model_whose_routers_are_not_found_has_no_drift_but_the_reason_for_it():
    assert unread_routers(tiny()) is None
    found = measured(without_router(), without_router(), prompts(1))
    assert len(found) == 4
    summary = summarise_prompt_drift(list(found.values()), (0, 1, 2, 3))
    assert (summary.kl, {layer.kl for layer in summary.layers}, summary.num_prompts) == (None, {None}, 4)
    assert "has no router module beside" in summary.unread
    assert decode(PromptDrift, encode(summary), source="memory") == summary


# --- summary ----------------------------------------------------------------------------------------------------------


def simulated(num=30, layers=3, per_cluster=2, fixed=()):
    generator = np.random.default_rng(0)
    kl_NL = generator.exponential(0.01, (num, layers))
    return [
        PromptDriftItem(
            id=f"p{number:03d}",
            cluster=f"c{number // per_cluster}",
            kl=tuple(None if place in fixed else value for place, value in enumerate(kl_NL[number].tolist())),
        )
        for number in range(num)
    ]


def test_means_are_over_prompts_then_layers_and_intervals_those_of_a_plain_bootstrap_over_clusters():
    items = [*simulated(), *simulated(31)[30:]]  # the last cluster has one prompt
    kl_NL = np.array([item.kl for item in items])
    clusters = [items[start : start + 2] for start in range(0, 31, 2)]
    generator = random.Random(5)
    drawn_RL = np.array(
        [
            np.mean([item.kl for cluster in generator.choices(clusters, k=16) for item in cluster], axis=0)
            for _ in range(3000)
        ]
    )
    found = summarise_prompt_drift(items, (2, 5, 9))
    assert [layer.layer for layer in found.layers] == [2, 5, 9]
    estimates = [(layer.kl, kl_NL[:, place], drawn_RL[:, place]) for place, layer in enumerate(found.layers)]
    for estimate, values, plain in (*estimates, (found.kl, kl_NL.mean(axis=1), drawn_RL.mean(axis=1))):
        low, high = np.quantile(plain, [0.025, 0.975])
        assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
        assert (estimate.lower, estimate.upper) == pytest.approx((low, high), abs=0.1 * (high - low))
        assert estimate.n == 16
    assert (found.num_prompts, found.unread) == (31, None)
    assert decode(PromptDrift, encode(found), source="memory") == found


def test_the_order_of_prompts_changes_no_bit_and_one_cluster_carries_no_interval():
    items = simulated()
    found = summarise_prompt_drift(items, (0, 1, 2))
    for seed in range(5):
        assert summarise_prompt_drift(random.Random(seed).sample(items, len(items)), (0, 1, 2)) == found
    assert summarise_prompt_drift(items, (0, 1, 2), seed=1).kl.lower != found.kl.lower
    alone = summarise_prompt_drift(items[:2], (0, 1, 2)).kl
    assert (alone.lower, alone.upper, alone.n) == (None, None, 1)


def test_a_layer_whose_router_does_not_choose_has_no_number_and_is_in_no_mean():
    whole, found = (summarise_prompt_drift(simulated(fixed=fixed), (0, 1, 2)) for fixed in ((), (0,)))
    assert [layer.kl is None for layer in found.layers] == [True, False, False]
    assert found.layers[1:] == whole.layers[1:]
    assert found.kl.value == pytest.approx(np.mean([layer.kl.value for layer in whole.layers[1:]]))


def test_items_of_other_layers_are_a_bug_that_shows():
    with pytest.raises(ValueError, match="layers"):
        summarise_prompt_drift(simulated(), (0, 1))
    with pytest.raises(ValueError, match="layers"):
        summarise_prompt_drift([*simulated(2), *simulated(3, fixed=(1,))[2:]], (0, 1, 2))


# --- stage ------------------------------------------------------------------------------------------------------------


def test_an_interrupted_measurement_goes_on_and_a_bare_model_has_none(models, tmp_path):
    base, tuned = models
    journal = Journal(tmp_path / "prompts.jsonl", PromptDriftItem)
    work = SimpleNamespace(journal=lambda *_, **__: journal, notify=lambda _: None)
    training = SimpleNamespace(base=base.identity)
    pool = SimpleNamespace(target=SimpleNamespace(training=training), base=lambda: base, tuned=lambda: tuned)
    items, config = tiny_items(3, seed=0), MoeConfig()
    whole = model_drift.prompt_drift_items(pool, items, config, work)
    assert [item.id for item in whole] == sorted(item.id for item in prompts())
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(lines[:5]))
    assert model_drift.prompt_drift_items(pool, items, config, work) == whole
    pool.base = None  # nothing is missing: no base is loaded
    assert model_drift.prompt_drift_items(pool, items, config, work) == whole
    bare = SimpleNamespace(target=SimpleNamespace(training=None))
    assert model_drift.prompt_drift_items(bare, items, config, work) == ()
