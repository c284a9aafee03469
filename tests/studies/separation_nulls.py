"""The AUROC on held-out goals where the sides mean nothing, and where a difference is planted.

    python -m tests.studies.separation_nulls --runs 2000 --prepared prepared

Routing counts are simulated: experts differ in use, goals and answers in what they are about. Where the sides mean
nothing both answers of a goal are drawn alike (or, of a prepare run, exchanged at random), and the p-value of the
selected experts has to be uniform. The same with five folds in turn, in which every goal is scored, shows why the
program does not do that. Where a difference is planted, the interval should hold the AUROC of very many goals.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moe_cli.artifacts import layout
from moe_cli.artifacts.finished import finished_run
from moe_cli.prepare.routing_file import read_counts
from moe_cli.prepare.selection import Rule
from moe_cli.prepare.selection_evidence import separation_of
from moe_cli.prepare.separation import GoalSplit, areas, measure_separation, score_answers, split_goals
from moe_cli.records import RoutingCounts, Selection, Separation
from moe_cli.stats.significance import rank_p

LAYERS, EXPERTS, TOP_K, GOALS, IN_BATCH = 4, 16, 2, 80, 8
PLANTED = ((0, 3), (1, 7), (2, 5), (3, 12))  # experts that the unsafe side uses more
PLANTED_FLAT = tuple(layer * EXPERTS + expert for layer, expert in PLANTED)
TOPICS, MOODS = 8.0, 40.0  # the larger, the more alike are goals, and answers to one goal
FOLDS = 5

Floats = NDArray[np.float64]


def simulated_counts(generator: np.random.Generator, *, goals: int = GOALS, factor: float = 1.0) -> RoutingCounts:
    """Goals of one pair; the planted experts are used `factor` times as often on the unsafe side."""
    use_LE = np.random.default_rng(3).lognormal(0.0, 0.8, (LAYERS, EXPERTS))
    use_SLE = np.stack([use_LE, use_LE])
    for layer, expert in PLANTED:
        use_SLE[1, layer, expert] *= factor
    topics_NLE = generator.gamma(TOPICS, 1 / TOPICS, (goals, 1, LAYERS, EXPERTS))
    moods_NSLE = generator.gamma(MOODS, 1 / MOODS, (goals, 2, LAYERS, EXPERTS))
    weights_NSLE = use_SLE * topics_NLE * moods_NSLE
    tokens_NS = generator.integers(8, 40, (goals, 2))
    chances_NSLE = weights_NSLE / weights_NSLE.sum(-1, keepdims=True)
    routed_NSLE = generator.multinomial(TOP_K * tokens_NS[:, :, None], chances_NSLE)
    names = tuple(f"goal-{number}" for number in range(goals))
    return RoutingCounts(
        layers=tuple(range(LAYERS)),
        top_k=TOP_K,
        pair_ids=names,
        clusters=names,
        routed=routed_NSLE.astype(np.int32),
        seen=tokens_NS,
        gates=routed_NSLE / TOP_K,
        gradients=None,
    )


def exchanged(counts: RoutingCounts, generator: np.random.Generator) -> RoutingCounts:
    """The sides of every goal exchanged by a fair coin."""
    names = sorted(set(counts.clusters))
    coins = dict(zip(names, generator.random(len(names)) < 0.5, strict=True))
    swapped_N = np.array([coins[name] for name in counts.clusters])
    return replace(
        counts,
        routed=np.where(swapped_N[:, None, None, None], counts.routed[:, ::-1], counts.routed),
        seen=np.where(swapped_N[:, None], counts.seen[:, ::-1], counts.seen),
        crossed=None,
        harmless=None,
    )


def largest_differences(num_experts: int, most: int) -> Rule:
    """The rule `risk_diff` without a threshold: so many experts are selected from noise, too."""
    return Rule("risk_diff", -1.0, 50, most, num_experts)


def batches_of(counts: RoutingCounts) -> list[range]:
    num = len(counts.pair_ids)
    return [range(start, min(start + IN_BATCH, num)) for start in range(0, num, IN_BATCH)]


def separated(counts: RoutingCounts, seed: int, *, most: int = 6, num_sets: int = 39) -> Separation:
    rule = largest_differences(counts.routed.shape[-1], most)
    found = separation_of(rule, counts, batches_of(counts), (), draws=num_sets, resamples=1, seed=seed)
    assert isinstance(found, Separation), found
    return found


def folded_p(counts: RoutingCounts, generator: np.random.Generator, *, most: int = 6, num_sets: int = 39) -> float:
    """p of the mean AUROC over folds, each scored by what the others select."""
    names = generator.permutation(sorted(set(counts.clusters)))
    values = []
    for fold in range(FOLDS):
        scored = set(names[fold::FOLDS].tolist())
        inside = [pair for pair, name in enumerate(counts.clusters) if name in scored]
        others = tuple(pair for pair, name in enumerate(counts.clusters) if name not in scored)
        summed_SLE = counts.routed[list(others)].sum(0, dtype=np.int64)
        rates_SLE = summed_SLE / counts.seen[list(others)].sum(0)[:, None, None]
        chosen = np.argsort(-(rates_SLE[1] - rates_SLE[0]).ravel())[:most]
        split = GoalSplit(counts, (others,), tuple(inside), len(names) - len(scored))
        seed = int(generator.integers(2**31))
        answers = score_answers(split, tuple(chosen.tolist()), num_sets=num_sets, seed=seed)
        values.append(areas(answers.scores_AV, answers.unsafe_A))
    first, *controls = np.mean(values, axis=0).tolist()
    return rank_p(first, controls)


def null_p_values(
    num_runs: int, *, most: int = 6, folds: bool = False, counts: RoutingCounts | None = None, seed: int = 0
) -> Floats:
    """p of each run without a difference between the sides; with `counts` those, exchanged at random."""
    generator = np.random.default_rng([seed, most])
    p_values = []
    for run in range(num_runs):
        drawn = simulated_counts(generator) if counts is None else exchanged(counts, generator)
        p_values.append(folded_p(drawn, generator, most=most) if folds else separated(drawn, run, most=most).p_value)
    return np.array(p_values)


def large_sample_area(factor: float) -> float:
    """AUROC of the planted experts on 4,000 new goals."""
    counts = simulated_counts(np.random.default_rng(99), goals=4000, factor=factor)
    split = GoalSplit(counts, ((0,),), tuple(range(4000)), 0)
    answers = score_answers(split, PLANTED_FLAT, num_sets=1, seed=0)
    return float(areas(answers.scores_AV, answers.unsafe_A)[0])


def coverage(num_runs: int, factor: float, goals: int) -> tuple[float, float, float]:
    """Mean AUROC of the planted experts, share of p at most 0.05, and of intervals that hold that of many goals."""
    truth, generator = large_sample_area(factor), np.random.default_rng(5)
    found = []
    for run in range(num_runs):
        counts = simulated_counts(generator, goals=goals, factor=factor)
        one = measure_separation(split_goals(counts, batches_of(counts), run), PLANTED_FLAT, (), num_sets=39, seed=run)
        assert isinstance(one, Separation), one
        found.append(one)
    held = [one.auroc.lower is not None and one.auroc.lower <= truth <= (one.auroc.upper or 0.0) for one in found]
    return (
        float(np.mean([one.auroc.value for one in found])),
        float(np.mean([one.p_value <= 0.05 for one in found])),
        float(np.mean(held)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--prepared", type=Path)
    arguments = parser.parse_args()
    sources: list[tuple[str, RoutingCounts | None]] = [("simulated", None)]
    if arguments.prepared is not None:
        run = finished_run(arguments.prepared, "prepare")
        name = run.record(layout.SELECTION, Selection).base.name
        sources.append((str(arguments.prepared), read_counts(run.file(layout.routing_counts(name)))))
    for source, counts in sources:
        for most in (3, 6, 12):
            for folds in (False, True):
                p_values = null_p_values(arguments.runs, most=most, folds=folds, counts=counts)
                shares = ", ".join(f"p <= {bound} in {np.mean(p_values <= bound):.2%}" for bound in (0.05, 0.1, 0.5))
                print(f"{source}, {most} experts, {'five folds' if folds else 'halves'}: {shares}", flush=True)
    for factor in (1.5, 2.0, 2.5):
        for goals in (40, 200):
            area, power, held = coverage(arguments.runs // 2, factor, goals)
            print(
                f"planted x {factor}, {goals} goals: AUROC {area:.3f}, p <= 0.05 in {power:.1%}, interval holds the "
                f"AUROC of 4,000 goals ({large_sample_area(factor):.3f}) in {held:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
