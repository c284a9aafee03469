"""Simulated counts with replays of both answers and of harmless prompts, whose parts are planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe_cli.records import HarmlessCounts, ReasoningCounts, RoutingCounts

EXPERTS, TOP_K = 8, 2


def replayed(
    pairs: int, *, text: float = 0.0, prompt: float = 0.0, wrapper: float = 0.0, harmless: int = 0, seed: int = 0
) -> RoutingCounts:
    """One layer of 8 experts. Compliance favours expert 0 by `text`, attacked goals expert 1 by `prompt`.

    Expert 2 is favoured by `wrapper` inside any attack. Both replays of one answer count the same tokens.
    """
    random = np.random.default_rng(seed)
    seen = random.integers(20, 60, size=(pairs, 2))
    own, crossed = np.zeros((2, pairs, 2, 1, EXPERTS), dtype=np.int64)
    for pair, form, answer in np.ndindex(pairs, 2, 2):
        favours = {0: text * answer, 1: prompt * form, 2: wrapper * form}
        (own if form == answer else crossed)[pair, form, 0] = _routed(random, int(seen[pair, answer]), favours)
    names = tuple(f"pair-{number}" for number in range(pairs))
    return RoutingCounts(
        layers=(1,),
        top_k=TOP_K,
        pair_ids=names,
        clusters=names,
        routed=own,
        seen=seen,
        gates=own / TOP_K,
        gradients=None,
        crossed=crossed,
        harmless=_harmless(random, harmless, wrapper) if harmless else None,
    )


def with_reasoning(counts: RoutingCounts, seed: int = 1) -> RoutingCounts:
    """A random part of every count as its reasoning; the first pair's plain answer has none."""
    random = np.random.default_rng(seed)

    def part(whole):
        return random.integers(0, np.asarray(whole) + 1)

    seen, own = part(counts.seen), part(counts.routed)
    seen[0, 0], own[0, 0] = 0, 0
    seen = np.maximum(seen, own.max((-1, -2)))
    crossed = None if counts.crossed is None else np.minimum(part(counts.crossed), seen[:, ::-1, None, None])
    harmless = None if counts.harmless is None else part(counts.harmless.routed)
    reasoning = ReasoningCounts(
        routed=own,
        seen=seen,
        gates=own / TOP_K,
        crossed=crossed,
        harmless=harmless,
        harmless_seen=None if harmless is None else harmless.max((1, 2, 3)),
    )
    return replace(counts, reasoning=reasoning)


def _harmless(random: np.random.Generator, number: int, wrapper: float) -> HarmlessCounts:
    seen = random.integers(20, 60, size=number)
    routed = np.array([[[_routed(random, int(n), {2: wrapper * form})] for form in range(2)] for n in seen])
    names = tuple(f"harmless-{place}" for place in range(number))
    return HarmlessCounts(prompt_ids=names, clusters=names, routed=routed, seen=seen)


def _routed(random: np.random.Generator, tokens: int, favours: dict[int, float]) -> np.ndarray:
    weights = np.ones(EXPERTS)
    for expert, favour in favours.items():
        weights[expert] += favour
    routed = np.zeros(EXPERTS, dtype=np.int64)
    for _ in range(tokens):
        routed[random.choice(EXPERTS, size=TOP_K, replace=False, p=weights / weights.sum())] += 1
    return routed
