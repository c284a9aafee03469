"""Fixed batches: full, of one composition, the same for any order of the input."""

from __future__ import annotations

import random

import pytest

from moe_cli.errors import UsageError
from moe_cli.prepare.batches import Composition, batch_examples, composition, plan_batches, refuse_no_full_batch
from moe_cli.records import BenignPrompt, Message, PromptPair


def pairs(number: int) -> list[PromptPair]:
    return [
        PromptPair(
            id=f"p{n:02}",
            goal=f"goal {n}",
            cluster=f"c{n}",
            safe=(Message(role="user", content=f"plain {n}"),),
            unsafe=(Message(role="user", content=f"attacked {n}"),),
            attack="story",
        )
        for n in range(number)
    ]


def benign(number: int) -> list[BenignPrompt]:
    return [
        BenignPrompt(
            id=f"b{n:02}", cluster=f"b{n}", messages=(Message(role="user", content=f"harmless {n}"),), attack=None
        )
        for n in range(number)
    ]


def test_the_default_batch_is_half_attacked_and_a_quarter_benign():
    assert composition(16, 0.5, 0.5) == Composition(4, 4, 8)
    assert composition(16, 0.5, 0.0) == Composition(8, 0, 8)


def test_a_batch_that_touches_no_pair_is_refused():
    with pytest.raises(UsageError, match="touches no pair"):
        composition(8, 1.0, 1.0)


def test_every_batch_is_full_and_no_pair_is_used_twice():
    parts = composition(16, 0.5, 0.5)
    plans = plan_batches(pairs(35), benign(30), parts, seed=1)
    assert [(len(plan.pairs), len(plan.benign)) for plan in plans] == [(8, 4)] * 4
    used = [pair.id for plan in plans for pair in plan.pairs]
    assert len(set(used)) == len(used) == 32


def test_too_few_benign_prompts_limit_the_number_of_batches():
    assert len(plan_batches(pairs(40), benign(9), composition(16, 0.5, 0.5), seed=1)) == 2


def test_not_one_full_batch_is_an_error_that_says_what_is_missing_and_why():
    parts = composition(16, 0.5, 0.5)
    refuse_no_full_batch(8, 4, parts)
    for pairs_there, benign_there in ((7, 4), (8, 3)):
        with pytest.raises(UsageError, match="needs 8 pairs and 4 benign prompts") as caught:
            refuse_no_full_batch(pairs_there, benign_there, parts, dropped={"the plain form was not refused": 9})
        assert f"there are {pairs_there} and {benign_there} left" in caught.value.message
        assert "9 dropped: the plain form was not refused" in caught.value.message


def test_the_order_of_the_input_changes_nothing_and_the_seed_does():
    parts = composition(8, 0.5, 0.0)
    shuffled = pairs(20)
    random.Random(5).shuffle(shuffled)
    assert plan_batches(shuffled, [], parts, seed=1) == plan_batches(pairs(20), [], parts, seed=1)
    assert plan_batches(pairs(20), [], parts, seed=2) != plan_batches(pairs(20), [], parts, seed=1)


def test_examples_carry_the_right_targets_sides_and_batch():
    parts = composition(8, 0.5, 0.5)
    plan = plan_batches(pairs(4), benign(2), parts, seed=0)[0]
    refusals = {pair.id: f"No {pair.id}" for pair in plan.pairs}
    answers = {prompt.id: f"Yes {prompt.id}" for prompt in plan.benign}
    examples = batch_examples(plan, 3, parts, refusals, answers)
    assert [example.kind for example in examples] == ["refuse_plain"] * 2 + ["benign"] * 2 + ["refuse_attacked"] * 4
    assert {example.batch_idx for example in examples} == {3}
    for example in examples:
        source = example.id.partition("#")[0]
        target = answers[source] if example.kind == "benign" else refusals[source]
        assert example.messages[-1] == Message(role="assistant", content=target)
        assert example.side == ("unsafe" if example.kind == "refuse_attacked" else "safe")
        assert example.messages[0].content.startswith("attacked" if example.side == "unsafe" else ("plain", "harmless"))
