"""Router restoration: the base's router and nothing else, and the tuned model's own bits again afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from moe_cli.errors import UsageError
from moe_cli.evaluate.base_router import base_router_of, changed_router_params, restoring_base_router
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.model.topology import router_tensors
from tests.builders import answered
from tests.evaluate.two_models import moved, tiny

IDS = torch.tensor([[7, 8, 9, 10, 11, 12]])


def logits(loaded):
    with torch.no_grad():
        return loaded.model(IDS).logits


def test_inside_the_block_the_router_is_the_bases_and_everything_else_is_the_tuned_models():
    base, tuned = tiny(), moved()
    mixed = moved()
    with torch.no_grad():
        for layer, of_base in zip(mixed.model.model.layers, base.model.model.layers, strict=True):
            layer.mlp.gate.weight.copy_(of_base.mlp.gate.weight)
    as_trained = logits(tuned)
    with base_router_of(base, tuned) as restored:
        assert torch.equal(logits(restored), logits(mixed))
        assert weights_fingerprint(restored.model) == weights_fingerprint(mixed.model)
    assert not torch.equal(as_trained, logits(mixed))


def test_after_the_block_and_after_an_error_in_it_the_tuned_model_has_its_own_bits():
    base, tuned = tiny(), moved()
    before = {loaded: weights_fingerprint(loaded.model) for loaded in (base, tuned)}
    with base_router_of(base, tuned):
        assert weights_fingerprint(tuned.model) != before[tuned]
    with pytest.raises(RuntimeError, match="mine"), base_router_of(base, tuned):
        raise RuntimeError("mine")
    assert {loaded: weights_fingerprint(loaded.model) for loaded in (base, tuned)} == before


def test_the_restored_model_is_known_as_another_one_than_base_tuned_and_the_other_way_round():
    base = tiny()
    tuned = replace(moved(), identity=replace(base.identity, fingerprint="a" * 64))
    with base_router_of(base, tuned) as restored, base_router_of(tuned, base) as other_way:
        fingerprints = {each.identity.fingerprint for each in (base, tuned, restored, other_way)}
        assert len(fingerprints) == 4
        assert all(len(fingerprint) == 64 for fingerprint in fingerprints)
        assert replace(restored.identity, fingerprint="a" * 64) == tuned.identity
    with base_router_of(base, tuned) as again:
        assert again.identity == restored.identity


def test_every_changed_value_of_the_router_is_counted_and_no_other():
    base = tiny()
    assert changed_router_params(base, tiny()) == 0
    assert changed_router_params(base, moved("experts", "self_attn")) == 0
    tuned = tiny()
    with torch.no_grad():
        tuned.model.model.layers[2].mlp.gate.weight[3, :5] += 1.0
    assert changed_router_params(base, tuned) == 5
    whole = sum(tensor.numel() for tensor in router_tensors(base.model).values())
    assert 0.99 * whole < changed_router_params(base, moved("mlp.gate")) <= whole == 4 * 16 * 128


def test_a_model_whose_router_is_not_found_is_refused_with_a_hint():
    base, tuned = tiny(), tiny()
    for loaded in (base, tuned):
        for layer in loaded.model.model.layers:
            layer.mlp.decides = layer.mlp.gate
            del layer.mlp.gate
    with pytest.raises(UsageError, match="no router") as caught:
        changed_router_params(base, tuned)
    assert "--restore-router" in caught.value.hint


def answer(name, harmful, kind="harmful"):
    label = None if harmful is None else "compliance" if harmful else "full_refusal"
    return answered(name, label, kind=kind, suite="attacked" if kind == "harmful" else kind)


def test_attack_success_is_paired_over_the_items_that_were_answered_again():
    tuned = [answer(*pair) for pair in zip("abcdef", (True, True, False, False, None, True), strict=True)]
    restored = [answer(*pair) for pair in zip("fedcba", (None, True, True, True, False, True), strict=True)]
    benign = answer("benign", False, kind="benign")
    found = restoring_base_router(7, [*tuned, benign], restored)
    assert found.changed_params == 7
    assert (found.attack_success.k, found.attack_success.n, found.attack_success.unscored) == (4, 5, 1)
    assert (found.attack_success_tuned.k, found.attack_success_tuned.n, found.attack_success_tuned.unscored) == (
        3,
        5,
        1,
    )
    assert (found.n, found.clusters_tuned, found.clusters_restored) == (4, 1, 2)
    assert (found.only_tuned, found.only_restored) == (1, 2)  # b; c and d; e and f have one verdict only


def test_an_unchanged_router_has_no_rate_and_nothing_answered_again():
    found = restoring_base_router(0, [answer("a", True)], [])
    assert (found.attack_success, found.attack_success_tuned, found.only_tuned, found.only_restored) == (
        None,
        None,
        0,
        0,
    )


def test_items_that_the_tuned_model_did_not_answer_are_a_bug_that_shows():
    for restored in ([answer("b", True)], [answer("a", True), answer("a", False)]):
        with pytest.raises(ValueError, match="other items"):
            restoring_base_router(1, [answer("a", True)], restored)
