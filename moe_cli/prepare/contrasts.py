"""Parts of an expert's risk difference: the text of the answers, the prompts, the wrapper, the harm.

With r(form, answer) the rate of an expert over the answer tokens when a form of a goal (plain P, attacked A) is
replayed with an answer (the refusal that the plain form got, the compliance that the attacked form got), and r(wrapped)
and r(plain) the rates of harmless prompts in both forms, each with one answer:

    risk_diff = r(A, compliance) - r(P, refusal)
    prompt    = 1/2 sum over both answers a of [r(A, a) - r(P, a)]
    text      = risk_diff - prompt = 1/2 sum over both forms f of [r(f, compliance) - r(f, refusal)]
    wrapper   = r(wrapped) - r(plain)
    did       = risk_diff - wrapper
    harm      = r(A, compliance) - r(wrapped)

So text is a difference of two sides as the risk difference is, and prompt and did are sums of two of them. The sides
of harm are two unmatched groups: no cluster is in both. Pure.

Letters of shapes: N pairs, S sides, L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_cli.config import PrepareConfig
from moe_cli.config.sections import conditions_of
from moe_cli.errors import UsageError
from moe_cli.prepare.ranking import Floats
from moe_cli.prepare.risk import (
    SAFE,
    UNSAFE,
    ClusterCounts,
    Clusters,
    Contrast,
    Term,
    cluster_counts,
    of_pairs,
    pooled,
    within_clusters,
)
from moe_cli.records import RoutingCounts

Quantity = Literal["risk_diff", "text", "prompt", "did"]
Ints = NDArray[np.signedinteger]

PARTS: tuple[Literal["text", "prompt", "did"], ...] = ("text", "prompt", "did")

SETTING = "prepare.extra_replays"
WRAPS = (
    "bring --benign prompts and --attack templates, which wrap them, or pairs with the columns benign and "
    "benign_attacked"
)
NOT_REPLAYED = "each form was not replayed with the answer to the other form in this run"
NOT_WRAPPED = "no harmless prompt was counted both plain and inside an attack in this run"


def clusters_of(quantity: Quantity, counts: RoutingCounts, used: Sequence[int]) -> Clusters:
    """Counts by cluster whose pooled difference is the quantity, from the pairs `used` and all harmless prompts.

    Raises:
        UsageError: it needs counts that were not recorded.
    """
    if quantity == "risk_diff":
        return cluster_counts(counts, used)
    if quantity == "text":
        return _text(counts, used)
    if quantity == "prompt":
        return _prompt(counts, used)
    pairs, harmless = cluster_counts(counts, used), wrapper_clusters(counts)
    sizes = pairs.num_clusters, harmless.num_clusters
    terms = Term(1.0, pairs, slice(0, sizes[0])), Term(-1.0, harmless, slice(sizes[0], sum(sizes)))
    return Contrast(terms, sizes)


def wrapper_clusters(counts: RoutingCounts) -> ClusterCounts:
    """Counts of harmless prompts by cluster: plain as the safe side, inside an attack as the unsafe side.

    Raises:
        UsageError: there are none.
    """
    harmless = counts.harmless
    if harmless is None or not harmless.prompt_ids:
        raise UsageError(
            NOT_WRAPPED,
            hint=f"run moe prepare with {SETTING}, which is the default, and {WRAPS}",
        )
    return within_clusters(
        harmless.clusters,
        harmless.routed,
        np.repeat(harmless.seen[:, None], 2, axis=1),
        num_experts=math.prod(harmless.routed.shape[-2:]),
    )


def harm_clusters(counts: RoutingCounts, used: Sequence[int]) -> Contrast:
    """The counts of the pairs' compliance inside attacks, and of harmless prompts inside attacks as the safe side.

    The clusters of the pairs `used` stand before those of the harmless prompts; each has tokens on one side alone.

    Raises:
        UsageError: there are no harmless prompts.
    """
    pairs, harmless = cluster_counts(counts, used), wrapper_clusters(counts)
    sizes = pairs.num_clusters, harmless.num_clusters
    routed_SCX = np.zeros((2, sum(sizes), pairs.num_experts))
    seen_SC = np.zeros((2, sum(sizes)))
    for side, group, columns in ((UNSAFE, pairs, slice(0, sizes[0])), (SAFE, harmless, slice(sizes[0], sum(sizes)))):
        routed_SCX[side, columns] = group.routed_SCX[UNSAFE]  # of both groups the form inside an attack
        seen_SC[side, columns] = group.seen_SC[UNSAFE]
    return Contrast((Term(1.0, ClusterCounts(routed_SCX, seen_SC), slice(0, sum(sizes))),), sizes)


def is_recorded(quantity: Quantity, counts: RoutingCounts) -> bool:
    """Whether the counts that the quantity needs were recorded."""
    if quantity == "did":
        return counts.harmless is not None and bool(counts.harmless.prompt_ids)
    return quantity == "risk_diff" or counts.crossed is not None


def refuse_unrecorded(settings: PrepareConfig, *, wraps: bool) -> None:
    """Refuse a selection that needs counts which the run would not record, before anything is answered.

    `wraps`: there are harmless prompts of which both forms are known.

    Raises:
        UsageError: says which counts, and what records them.
    """
    conditions = conditions_of(settings.select_by)
    quantities = {settings.method, *(condition.quantity for condition in conditions)}
    for part in (part for part in PARTS if part in quantities):
        if not settings.extra_replays:
            raise UsageError(f"{part} needs replays that are turned off", hint=f"leave out --set {SETTING}=false")
        if part == "did" and not wraps:
            raise UsageError(
                "did needs harmless prompts both plain and inside an attack, and there are none", hint=WRAPS
            )


def quantity_of(quantity: Quantity, counts: RoutingCounts, pairs: Sequence[int]) -> Floats:
    """The pooled quantity [L, E] of some pairs (indices into `counts`); the wrapper of `did` is the run's."""
    if quantity == "risk_diff":
        return of_pairs(counts, pairs)
    return sum_over_batches(clusters_of(quantity, counts, pairs)).reshape(counts.routed.shape[-2:])


def quantity_of_batches(quantity: Quantity, counts: RoutingCounts, batches: Sequence[Sequence[int]]) -> Floats:
    """`quantity_of` every batch [B, L, E]; the wrapper, which they share, is computed once."""
    if quantity != "did":
        return np.stack([quantity_of(quantity, counts, batch) for batch in batches])
    wrapper_X = sum_over_batches(wrapper_clusters(counts))
    differences = [sum_over_batches(cluster_counts(counts, batch)) - wrapper_X for batch in batches]
    return np.stack(differences).reshape(-1, *counts.routed.shape[-2:])


def sum_over_batches(clusters: Clusters) -> Floats:
    """The pooled difference [X] with every cluster counted once."""
    value_X: Floats = pooled(clusters, np.ones((1, clusters.num_clusters)))[0]
    return value_X


def _text(counts: RoutingCounts, used: Sequence[int]) -> ClusterCounts:
    """Refusals as the safe side and compliance as the unsafe one, each the mean over both forms."""
    replays = _Replays.of(counts, used)
    means = (np.add(own, crossed[::-1], dtype=np.float64) / 2 for own, crossed in replays.rows())
    return within_clusters(replays.clusters, means, replays.seen_NS, num_experts=replays.num_experts)


def _prompt(counts: RoutingCounts, used: Sequence[int]) -> Contrast:
    """Attacked minus plain form: half the difference with the refusal, half the one with the compliance."""
    replays = _Replays.of(counts, used)
    refusal = (np.stack([own[SAFE], crossed[UNSAFE]]) for own, crossed in replays.rows())
    compliance = (np.stack([crossed[SAFE], own[UNSAFE]]) for own, crossed in replays.rows())
    halves = [
        within_clusters(replays.clusters, routed, replays.seen_NS[:, [side, side]], num_experts=replays.num_experts)
        for side, routed in ((SAFE, refusal), (UNSAFE, compliance))
    ]
    size = halves[0].num_clusters
    return Contrast(tuple(Term(0.5, half, slice(0, size)) for half in halves), (size,))


@dataclass(frozen=True, slots=True)
class _Replays:
    """Some pairs, whose forms were replayed with both answers."""

    clusters: list[str]  # N
    seen_NS: Ints  # answer tokens of the form's own answer
    num_experts: int  # X
    rows: Callable[[], Iterator[tuple[Ints, Ints]]]  # of every pair [S, L, E]: with the own and with the other answer

    @classmethod
    def of(cls, counts: RoutingCounts, used: Sequence[int]) -> _Replays:
        """The pairs `used`."""
        if (crossed := counts.crossed) is None:
            raise UsageError(NOT_REPLAYED, hint=f"run moe prepare with {SETTING}, which is the default")
        return cls(
            [counts.clusters[row] for row in used],
            counts.seen[list(used)],
            math.prod(crossed.shape[-2:]),
            lambda: ((counts.routed[row], crossed[row]) for row in used),
        )
