"""Do the selected experts tell the sides apart on goals that chose none of them?

One half of the goals, drawn by the seed, selects by the same rule. Of every answer of the other half the score is the
share of its routed choices that fell on the selected experts, and the AUROC says how often an answer of the unsafe side
has a larger score than one of the safe side. Random experts tell the sides apart, too, where answers of the sides
differ in anything, so the AUROC stands beside that of control sets, which have as many experts of every layer and use.

The halves share no goal and each goal is scored once. Folds in turn would score every goal, but what one fold selects
depends on the goals that the others are scored on, so that labels without meaning would have small p-values too often.
Pure.

Letters of shapes: A answers of the held-out goals, C their goals, V sets of experts (0: the selected one), B resamples,
L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from moe_cli.config.sections import MATCHED
from moe_cli.prepare.ranking import Bools, Floats, flat_mask
from moe_cli.prepare.risk import SAFE, UNSAFE
from moe_cli.prepare.selection import Rule
from moe_cli.records import HarmlessCounts, RoutingCounts, Separation
from moe_cli.records.drift import Estimate
from moe_cli.stats.clusters import BLOCK, NUM_RESAMPLES, cluster_draws
from moe_cli.stats.control_sets import chance_of_same_set, draw_control_sets
from moe_cli.stats.significance import CONFIDENCE, rank_p

Indices = NDArray[np.intp]
LEAST_GOALS = 20  # of both halves together
TAIL = 0.025  # each side of the control sets' 95 %


@dataclass(frozen=True, slots=True)
class GoalSplit:
    """The goals in two halves: one selects, the other is scored."""

    counts: RoutingCounts  # without the harmless prompts that held-out goals brought
    batches: tuple[tuple[int, ...], ...]  # pairs of the selecting goals; batches that have none are left out
    held_out: tuple[int, ...]  # pairs of the other goals
    num_selecting: int  # goals


def why_inseparable(rule: Rule, counts: RoutingCounts, used: Sequence[int]) -> str | None:
    """Why no AUROC on held-out goals can be told for this rule and these pairs; None where it can."""
    if rule.method == "all":
        return "every expert is selected"
    if rule.method == "file":
        return "the experts come from a file, and which goals chose them is not known"
    if (rule.matched_to if rule.method in MATCHED else rule.method) == "gradient":
        return "gradients are stored for whole batches, not for goals"
    num_goals = len({counts.clusters[pair] for pair in used})
    if num_goals < LEAST_GOALS:
        return f"it needs {LEAST_GOALS} goals, of which half select, and there are {num_goals}"
    return None


def split_goals(counts: RoutingCounts, batches: Sequence[Sequence[int]], seed: int) -> GoalSplit:
    """Two halves of the goals, drawn by the seed; of an odd number one more selects."""
    names = sorted({counts.clusters[pair] for batch in batches for pair in batch})
    np.random.default_rng([seed, 10]).shuffle(names)
    held_out = set(names[(len(names) + 1) // 2 :])
    selecting = (tuple(pair for pair in batch if counts.clusters[pair] not in held_out) for batch in batches)
    scored = sorted({pair for batch in batches for pair in batch if counts.clusters[pair] in held_out})
    return GoalSplit(
        counts=replace(counts, harmless=_without(counts.harmless, held_out)),
        batches=tuple(batch for batch in selecting if batch),
        held_out=tuple(scored),
        num_selecting=len(names) - len(held_out),
    )


def _without(harmless: HarmlessCounts | None, held_out: set[str]) -> HarmlessCounts | None:
    if harmless is None:
        return None
    kept = [row for row, cluster in enumerate(harmless.clusters) if cluster not in held_out]
    return HarmlessCounts(
        prompt_ids=tuple(harmless.prompt_ids[row] for row in kept),
        clusters=tuple(harmless.clusters[row] for row in kept),
        routed=harmless.routed[kept],
        seen=harmless.seen[kept],
    )


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """Answers of the held-out goals, with the share of their choices that each set of experts has."""

    scores_AV: Floats  # first of the selected set, then of the control sets
    unsafe_A: Bools
    goals_A: tuple[str, ...]
    chance_of_same: float  # that a control set is the selected set


def score_answers(split: GoalSplit, selected: tuple[int, ...], *, num_sets: int, seed: int) -> AnswerScores:
    """Scores by `selected` (flat, of the selecting goals) and by so many control sets.

    Pairs of which a side has no token are left out.
    """
    counts, shape = split.counts, split.counts.routed.shape[-2:]
    used = sorted({pair for batch in split.batches for pair in batch})
    use_LE = counts.routed[used, UNSAFE].sum(0, dtype=np.int64)
    selected_LE = flat_mask(selected, use_LE.size).reshape(shape)
    sets = [selected_LE, *draw_control_sets(selected_LE, use_LE, num=num_sets, seed=seed)]
    pairs = [pair for pair in split.held_out if counts.seen[pair].all()]
    return AnswerScores(
        scores_AV=np.concatenate([_shares(counts, pairs, side, sets) for side in (SAFE, UNSAFE)]),
        unsafe_A=np.repeat([False, True], len(pairs)),
        goals_A=tuple(counts.clusters[pair] for pair in pairs) * 2,
        chance_of_same=chance_of_same_set(selected_LE, use_LE),
    )


def measure_separation(
    split: GoalSplit, selected: tuple[int, ...], union: Sequence[int], *, num_sets: int, seed: int
) -> Separation | str:
    """AUROC of `selected` (flat, of the selecting goals) on the held-out ones, or why there is none.

    `union` is the selection of all goals, `num_sets` the number of control sets.
    """
    answers = score_answers(split, selected, num_sets=num_sets, seed=seed)
    if not answers.goals_A:
        return "no pair of the held-out goals has tokens on both sides"
    first, *others = areas(answers.scores_AV, answers.unsafe_A).tolist()
    lower, upper = np.quantile(others, [TAIL, 1 - TAIL])
    return Separation(
        num_goals_selecting=split.num_selecting,
        num_experts=len(selected),
        num_shared=len(set(selected) & set(union)),
        num_answers=len(answers.goals_A),
        auroc=resampled_area(first, answers, seed),
        num_control_sets=num_sets,
        control_mean=float(np.mean(others)),
        control_lower=float(lower),
        control_upper=float(upper),
        p_value=rank_p(first, others),
        chance_of_same=answers.chance_of_same,
    )


def _shares(counts: RoutingCounts, pairs: Sequence[int], side: int, sets: Sequence[Bools]) -> Floats:
    """Share of every answer's choices that each set has [pairs, V]; equal quotients are equal numbers."""
    sets_XV = np.stack([one.ravel() for one in sets], axis=1).astype(np.float64)
    shares_AV = np.empty((len(pairs), len(sets)))
    for row, pair in enumerate(pairs):  # one at a time, as all are large
        routed_X = counts.routed[pair, side].ravel()
        shares_AV[row] = routed_X @ sets_XV / routed_X.sum()
    return shares_AV


def areas(scores_AV: Floats, unsafe_A: Bools) -> Floats:
    """AUROC of every column [V]: the chance that an unsafe answer has a larger score than a safe one, ties one half.

    (The statistic of Mann and Whitney over the number of comparisons.)
    """
    safe_AV, unsafe_AV = np.sort(scores_AV[~unsafe_A], axis=0), scores_AV[unsafe_A]
    won_V = np.array(
        [
            (np.searchsorted(safe_A, scores_A).sum() + np.searchsorted(safe_A, scores_A, side="right").sum()) / 2
            for safe_A, scores_A in zip(safe_AV.T, unsafe_AV.T, strict=True)
        ]
    )
    return np.asarray(won_V / (len(safe_AV) * len(unsafe_AV)))


def resampled_area(area: float, answers: AnswerScores, seed: int) -> Estimate:
    """The first set's AUROC with its 95 % interval; without one at 0 or 1, where no resample of the goals differs.

    logit(A) -+ t SE / (A (1 - A)), SE of resampled goals and t with one degree of freedom less than goals: percentiles
    of the resamples are too near to an A close to 1.
    """
    names, goal_A = np.unique(np.asarray(answers.goals_A), return_inverse=True)
    num = len(names)
    if num < 2 or not 0 < area < 1:
        return Estimate(value=area, lower=None, upper=None, n=num)
    order = np.argsort(answers.scores_AV[:, 0], kind="stable")
    ordered_A, unsafe_A = answers.scores_AV[order, 0], answers.unsafe_A[order]
    first_A, last_A = np.searchsorted(ordered_A, ordered_A), np.searchsorted(ordered_A, ordered_A, side="right")
    generator = np.random.default_rng([seed, 11])
    blocks = []
    for start in range(0, NUM_RESAMPLES, BLOCK):
        drawn_BC = cluster_draws(num, min(BLOCK, NUM_RESAMPLES - start), generator)
        blocks.append(_weighted_areas(drawn_BC[:, goal_A[order]], unsafe_A, first_A, last_A))
    error = float(np.concatenate(blocks).std()) * sqrt(num / (num - 1)) / (area * (1 - area))
    reach = float(stdtrit(num - 1, (1 + CONFIDENCE) / 2)) * error
    lower, upper = expit(logit(area) + np.array([-reach, reach])).tolist()
    return Estimate(value=area, lower=lower, upper=upper, n=num)


def _weighted_areas(weights_BA: Floats, unsafe_A: Bools, first_A: Indices, last_A: Indices) -> Floats:
    """AUROC [B] of answers in order of their scores, each counted so often; where the ties of each begin and end."""
    safe_BA = np.pad(np.cumsum(weights_BA * ~unsafe_A, axis=1), ((0, 0), (1, 0)))
    unsafe_BA = weights_BA * unsafe_A
    won_B: Floats = (unsafe_BA * (safe_BA[:, first_A] + safe_BA[:, last_A]) / 2).sum(1)
    compared_B: Floats = unsafe_BA.sum(1) * safe_BA[:, -1]
    return won_B / compared_B
