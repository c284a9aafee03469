"""The selected experts by turn: groups of pairs, sums over the union, and intervals over whole goals."""

from __future__ import annotations

import dataclasses
import random
from itertools import chain

import numpy as np
import pytest

from moe_cli.codec import decode, encode
from moe_cli.config import ModelConfig
from moe_cli.model.load import load_model
from moe_cli.prepare.replays import count_routing
from moe_cli.prepare.routing_file import read_counts, write_counts
from moe_cli.prepare.union_evidence import turn_evidence
from moe_cli.records import SIDES, Message, Selection, TurnEvidence
from moe_cli.tiny.language import tiny_pairs
from tests.builders import generation
from tests.prepare.finished import config_of, found_in, planted_counts
from tests.prepare.replayed import replayed

UNION = (0, 3)


def of_two_turns(num=24):
    """Expert 0 is favoured by compliance; the first half of the attacks is answered at turn 1, the rest at turn 3.

    Two pairs make one goal. At turn 3 both sides were exchanged, so that the difference is the other way round.
    """
    counts = replayed(num, text=6.0)
    later = np.arange(num) >= num // 2
    routed, seen = counts.routed.copy(), counts.seen.copy()
    routed[later], seen[later] = routed[later][:, ::-1], seen[later][:, ::-1]
    turns = np.ones((num, 2), dtype=np.int64)
    turns[later, 1] = 3
    clusters = tuple(f"goal-{number // 2}" for number in range(num))
    return dataclasses.replace(counts, routed=routed, seen=seen, turns=turns, clusters=clusters)


def by_hand(counts, pairs):
    routed, seen = counts.routed[pairs][:, :, 0].sum(0), counts.seen[pairs].sum(0)
    return sum(routed[1, expert] / seen[1] - routed[0, expert] / seen[0] for expert in UNION)


def test_each_turn_has_the_summed_difference_of_its_pairs_with_a_bootstrap_over_goals():
    counts = of_two_turns()
    first, third = turn_evidence(counts, range(24), UNION, resamples=2000, seed=0)
    assert (first.turn, third.turn) == (1, 3)
    for found, pairs in ((first, list(range(12))), (third, list(range(12, 24)))):
        assert found.risk_diff == pytest.approx(by_hand(counts, pairs), rel=1e-12)
        assert (found.num_pairs, found.num_goals) == (12, 6)
        assert found.num_tokens == counts.seen[pairs, 1].sum()
        goals = [pairs[start : start + 2] for start in range(0, 12, 2)]
        generator = random.Random(3)
        drawn = [by_hand(counts, [*chain(*generator.choices(goals, k=6))]) for _ in range(3000)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (found.lower, found.upper) == pytest.approx((low, high), abs=0.15 * (high - low))
    assert first.lower > 0 > third.upper
    assert turn_evidence(counts, range(24), UNION, resamples=50, seed=1) != (first, third)


def test_without_several_turns_there_is_nothing_to_tell_apart():
    assert turn_evidence(replayed(4), range(4), UNION, resamples=10, seed=0) == ()


def test_what_is_not_known_is_no_difference_of_zero():
    counts = of_two_turns(6)
    (alone, _) = turn_evidence(counts, [0, 1, 4, 5], UNION, resamples=10, seed=0)
    assert (alone.num_goals, alone.lower, alone.upper) == (1, None, None) and alone.risk_diff is not None
    for found in turn_evidence(counts, range(6), (), resamples=10, seed=0):
        assert (found.risk_diff, found.lower, found.upper) == (None, None, None)
    silent = counts.seen.copy()
    silent[3:, 0] = 0
    found = turn_evidence(dataclasses.replace(counts, seen=silent), range(6), UNION, resamples=10, seed=0)
    assert [each.risk_diff is None for each in found] == [False, True]


def test_a_selection_holds_the_turns_of_its_pairs_and_one_of_an_earlier_version_has_none(tmp_path):
    counts = planted_counts()
    turns = np.ones((len(counts.pair_ids), 2), dtype=np.int64)
    turns[::2, 1] = 2
    found = found_in(config_of(tmp_path), dataclasses.replace(counts, turns=turns)).selection
    assert [each.turn for each in found.turns] == [1, 2]
    assert sum(each.num_pairs for each in found.turns) == len(counts.pair_ids)
    assert decode(Selection, encode(found), source="memory") == found
    bare = found_in(config_of(tmp_path), counts).selection
    assert dataclasses.replace(found, turns=()) == bare
    write_counts(tmp_path / "counts.npz", counts)
    assert read_counts(tmp_path / "counts.npz").turns is None
    assert isinstance(found.turns[0], TurnEvidence)


def test_the_turn_of_an_answer_is_that_of_its_own_conversation():
    loaded, pairs = load_model(ModelConfig(name="tiny")), tiny_pairs(2, 42)
    answers = {f"{pair.id}#{side}": generation(f"{pair.id}#{side}", "a b c") for pair in pairs for side in SIDES}
    longer = (*pairs[1].unsafe, Message(role="assistant", content="yes"), *pairs[1].unsafe)

    def count(of_pairs):
        return count_routing(loaded, of_pairs, answers, batch_size=4, batch_tokens=4096, notify=lambda _: None)

    assert count(pairs).turns is None
    assert count([pairs[0], dataclasses.replace(pairs[1], unsafe=longer)]).turns.tolist() == [[1, 1], [1, 2]]
