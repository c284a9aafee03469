"""How often the interval of a difference holds the truth, and how often no effect is called one.

    python -m tests.studies.intervals --draws 5000

Two arms answer the same items; items of one cluster (attack variants of one goal) resemble each other, and so do the
runs of one arm, which differ by their seed. Every scenario is drawn many times with a known difference, and judged by
the program's own functions. The percentile bootstrap (over runs, then over clusters) stands beside the interval that is
used. Goals that fail with all of their variants or in all runs, giant goals and arms of which a seed fails are drawn at
the end. The tables of `docs/method.md` are what this prints, in about half an hour on one core.

Letters of shapes: D draws, R runs of an arm, C clusters, M items of a cluster, B resamples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from moe_cli.stats.clusters import ItemMoments, effective_number, item_moments
from moe_cli.stats.intervals import ArmSums, Interval, cluster_interval, run_spread
from moe_cli.stats.proportions import rate_of
from moe_cli.stats.significance import LEVEL, mcnemar_p, sign_flip_p

BOOTSTRAP_RESAMPLES = 400
BLOCK = 500  # draws held in memory at once
SIZES = ((100, 1), (200, 1), (99, 3), (198, 3))  # items, items in a cluster
RATES = ((0.5, 0.5), (0.65, 0.33), (0.3, 0.2), (0.2, 0.1), (0.1, 0.1), (0.95, 0.85))  # of the two arms
LIKENESS = ((0.0, 0.5), (0.5, 0.5), (0.9, 0.2))  # of items in a cluster, and of the two arms on one item
SEEDED_RATES = ((0.5, 0.5), (0.3, 0.2), (0.1, 0.1))
RUNS = ((2, 2), (3, 3), (5, 5), (3, 1))  # of the two arms
MARGIN = 0.02
SEEDS = (0.0, 0.003, 0.01, 0.05)  # share of an answer's variance that the seed decides


@dataclass(frozen=True)
class Scenario:
    """What is drawn."""

    num_items: int
    cluster_size: int
    rate_a: float
    rate_b: float
    within: float  # share of an answer's variance that its cluster decides
    between: float  # correlation of the two arms
    runs: tuple[int, int] = (1, 1)
    seed: float = 0.0  # share of an answer's variance that the seed of its run decides

    @property
    def no_effect(self) -> bool:
        return self.rate_a == self.rate_b

    @property
    def truth(self) -> float:
        return self.rate_b - self.rate_a


@dataclass(frozen=True)
class Shares:
    """Of the draws of one scenario."""

    covered: float
    covered_by_bootstrap: float
    rejected: float  # by the p of the verdict: sign flips with one run each, else the interval's t
    rejected_by_mcnemar: float | None  # None: several runs
    width: float  # median
    seed_spread: float  # standard deviation of a run's rate from seed to seed


def scenarios() -> Iterator[Scenario]:
    """One run each: every size with every pair of rates; with clusters of several items also every likeness."""
    for num_items, size in SIZES:
        for rate_a, rate_b in RATES:
            for within, between in LIKENESS if size > 1 else LIKENESS[:1]:
                yield Scenario(num_items, size, rate_a, rate_b, within, between)


def seeded_scenarios() -> Iterator[Scenario]:
    """Several runs: sizes, rates and likeness with every number of runs and every influence of the seed."""
    for runs in RUNS:
        for found in scenarios():
            if (found.rate_a, found.rate_b) in SEEDED_RATES and (found.within, found.between) != LIKENESS[2]:
                yield from (replace(found, runs=runs, seed=seed) for seed in SEEDS)


def shares(scenario: Scenario, draws: int, random: np.random.Generator) -> Shares:
    """Draw the scenario and judge every draw."""
    sizes_C = np.full(scenario.num_items // scenario.cluster_size, scenario.cluster_size)
    parts = []
    for start in range(0, draws, BLOCK):
        a_DRCM, b_DRCM = _outcomes(scenario, min(BLOCK, draws - start), random)
        parts.append(_judged(a_DRCM, b_DRCM, sizes_C, random))
    covered, by_bootstrap, rejected, by_mcnemar, width = (
        np.concatenate([np.array(part[place]) for part in parts]) for place in range(5)
    )
    alone = scenario.runs == (1, 1)

    def share(lower_upper_D2: NDArray[np.float64]) -> float:
        lower_D, upper_D = lower_upper_D2.T
        return float(((lower_D <= scenario.truth + 1e-12) & (scenario.truth - 1e-12 <= upper_D)).mean())

    return Shares(
        covered=share(covered),
        covered_by_bootstrap=share(by_bootstrap),
        rejected=float(rejected.mean()),
        rejected_by_mcnemar=float(by_mcnemar.mean()) if alone else None,
        width=float(np.median(width)),
        seed_spread=_seed_spread(scenario),
    )


def _judged(
    a_DRCM: NDArray[np.int64], b_DRCM: NDArray[np.int64], sizes_C: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Intervals, those of the bootstrap, what p of the verdict and of McNemar reject, and widths, of every draw."""
    found = [_interval(a_RCM, b_RCM, sizes_C) for a_RCM, b_RCM in zip(a_DRCM, b_DRCM, strict=True)]
    bounds_D2 = np.array([(interval.lower, interval.upper) for interval in found])
    rejected_D = np.array([interval.p_value < LEVEL for interval in found])
    by_mcnemar_D = np.zeros(len(found), dtype=np.bool_)
    if a_DRCM.shape[1] == b_DRCM.shape[1] == 1:
        change_DCM = b_DRCM[:, 0] - a_DRCM[:, 0]
        rejected_D = np.array([sign_flip_p(change_CM.sum(-1)) < LEVEL for change_CM in change_DCM])
        counts = [((change_CM == -1).sum(), (change_CM == 1).sum()) for change_CM in change_DCM]
        by_mcnemar_D = np.array([mcnemar_p(int(fewer), int(more)) < LEVEL for fewer, more in counts])
    bootstrap_D2 = _percentiles(a_DRCM.sum(-1), b_DRCM.sum(-1), int(sizes_C.sum()), random)
    return bounds_D2, bootstrap_D2, rejected_D, by_mcnemar_D, bounds_D2[:, 1] - bounds_D2[:, 0]


def _interval(a_RCM: NDArray[np.int64], b_RCM: NDArray[np.int64], sizes_C: NDArray[np.int64]) -> Interval:
    spread = run_spread([ArmSums(a_RCM.sum(-1), seeded=True), ArmSums(b_RCM.sum(-1), seeded=True)], sizes_C)
    change_CM = b_RCM.mean(0) - a_RCM.mean(0)
    return cluster_interval(change_CM.sum(-1), sizes_C, spread, items=item_moments(change_CM))


def _outcomes(
    scenario: Scenario, draws: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Yes or no of every answer [draws, R, C, M] of both arms, from a Gaussian copula.

    The runs of an arm share half of what is the arm's own, of clusters and of items alike.
    """
    clusters, size = scenario.num_items // scenario.cluster_size, scenario.cluster_size
    of_cluster, of_item = (random.standard_normal((draws, 1, clusters, last)) for last in (1, size))
    alike, own = np.sqrt(scenario.between), np.sqrt((1 - scenario.between) / 2)

    def level(shared: NDArray[np.float64], runs: int, last: int) -> NDArray[np.float64]:
        of_arm = random.standard_normal((draws, 1, clusters, last))
        return alike * shared + own * of_arm + own * random.standard_normal((draws, runs, clusters, last))

    def outcomes(rate: float, runs: int) -> NDArray[np.int64]:
        cluster, item = level(of_cluster, runs, 1), level(of_item, runs, size)
        latent = np.sqrt(scenario.within) * cluster + np.sqrt(1 - scenario.within) * item
        seed = random.standard_normal((draws, runs, 1, 1))
        latent = np.sqrt(1 - scenario.seed) * latent + np.sqrt(scenario.seed) * seed
        return (latent < ndtri(rate)).astype(np.int64)

    return outcomes(scenario.rate_a, scenario.runs[0]), outcomes(scenario.rate_b, scenario.runs[1])


def _seed_spread(scenario: Scenario) -> float:
    """Standard deviation of the true rate of arm b over seeds, from the copula."""
    seeds = ndtri((np.arange(2000) + 0.5) / 2000)
    latent = (ndtri(scenario.rate_b) - np.sqrt(scenario.seed) * seeds) / np.sqrt(1 - scenario.seed)
    return float(np.std(ndtr(latent)))


def _percentiles(
    a_DRC: NDArray[np.int64], b_DRC: NDArray[np.int64], num_items: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Percentile bootstrap: runs of each arm with replacement, then clusters; all draws of a block alike."""
    clusters = a_DRC.shape[2]
    weights_CB = random.multinomial(clusters, np.full(clusters, 1 / clusters), BOOTSTRAP_RESAMPLES).T.astype(np.float64)
    means = []
    for yes_DRC in (a_DRC, b_DRC):
        runs = yes_DRC.shape[1]
        of_runs_BR = random.multinomial(runs, np.full(runs, 1 / runs), BOOTSTRAP_RESAMPLES) / runs
        means.append(sum((yes_DRC[:, run] @ weights_CB) * of_runs_BR[:, run] for run in range(runs)) / num_items)
    return np.quantile(means[1] - means[0], [LEVEL / 2, 1 - LEVEL / 2], axis=1).T


def main() -> None:
    """Print a row per scenario, then the ranges."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--draws", type=int, default=5000)
    words.add_argument("--seed", type=int, default=7)
    typed = words.parse_args()
    random = np.random.default_rng(typed.seed)
    print(
        "runs items cluster  rates        alike    seed (sd)      covered bootstrap  rejected McNemar  width",
        flush=True,
    )
    found: list[tuple[Scenario, Shares]] = []
    for s in (*scenarios(), *seeded_scenarios()):
        row = shares(s, typed.draws, random)
        found.append((s, row))
        mcnemar = "-" if row.rejected_by_mcnemar is None else f"{row.rejected_by_mcnemar:.3f}"
        print(
            f"{s.runs[0]}, {s.runs[1]} {s.num_items:4d} {s.cluster_size:7d}  {s.rate_a:.2f} {s.rate_b:.2f}  "
            f"{s.within:.1f} {s.between:.1f}  {s.seed:5.3f} ({row.seed_spread:.3f})  "
            f"{row.covered:10.3f} {row.covered_by_bootstrap:9.3f}  {row.rejected:8.3f} {mcnemar:>7}  {row.width:.3f}",
            flush=True,
        )
    for size in (1, 3):
        _print_ranges(f"one run each, clusters of {size}", [r for r in found if _is(r[0], (1, 1), size)])
    for runs in RUNS:
        _print_ranges(f"runs {runs[0]} and {runs[1]}", [row for row in found if row[0].runs == runs])
    _print_goals(typed.draws, random)
    _print_failing(typed.draws, random)
    _print_runs_alike(typed.draws, random)


# Sizes of the goals, and the share of goals that fail with all of their variants in b; in a none does.
GOALS = {
    "10 goals of 100": ([100] * 10, 0.1),
    "20 goals of 50": ([50] * 20, 0.05),
    "30 goals of 20": ([20] * 30, 0.05),
    "100 goals of 4": ([4] * 100, 0.03),
    "one goal of 1000 beside 50": ([1000] + [1] * 50, 0.1),
    "one goal of 50 beside 50": ([50] + [1] * 50, 0.1),
    "60 goals of 400, 200, 133, ...": ([max(1, round(400 / place)) for place in range(1, 61)], 0.1),
}


def _print_goals(draws: int, random: np.random.Generator) -> None:
    """Difference and rate where all answers to a goal are alike."""
    print("goals: worth; difference covered, within 2 points, mean width; rate covered, mean width", flush=True)
    for name, (sizes, share) in GOALS.items():
        sizes_C = np.array(sizes)
        fails_DC = (random.random((draws, len(sizes))) < share).astype(np.int64) * sizes_C
        found = [cluster_interval(fails_C, sizes_C, items=_of_whole_goals(fails_C, sizes_C)) for fails_C in fails_DC]
        within = [interval.lower >= -MARGIN and interval.upper <= MARGIN for interval in found]
        rates = [_rate(fails_C, sizes_C) for fails_C in fails_DC[: max(1, draws // 5)]]
        print(
            f"{name}: {effective_number(sizes_C):.1f}; {np.mean([i.lower <= share <= i.upper for i in found]):.3f},"
            f" {np.mean(within):.3f}, {np.mean([i.upper - i.lower for i in found]):.3f};"
            f" {np.mean([low <= share <= high for low, high in rates]):.3f},"
            f" {np.mean([high - low for low, high in rates]):.3f}",
            flush=True,
        )


ALIKE = ((50, 0.04, 3), (30, 0.05, 5), (100, 0.03, 3), (40, 0.04, 5))  # goals, share that fails, runs of either arm


def _print_runs_alike(draws: int, random: np.random.Generator) -> None:
    """All runs of b fail at the same goals, those of a at none: the interval, and the one of independent runs."""
    print(
        "goals, share, runs: covered, within 2 points, mean width; the same if runs counted as independent", flush=True
    )
    for num_goals, share, runs in ALIKE:
        sizes_C, none_RC = np.ones(num_goals, dtype=np.int64), np.zeros((runs, num_goals), dtype=np.int64)
        fails_DC = (random.random((draws, num_goals)) < share).astype(np.float64)
        texts = []
        for independent in (False, True):
            found = []
            for fails_C in fails_DC:
                b_RC = np.tile(fails_C, (runs, 1))
                spread = run_spread([ArmSums(none_RC, seeded=True), ArmSums(b_RC, seeded=True)], sizes_C)
                spread = replace(spread, step=1 / runs) if independent else spread
                found.append(cluster_interval(fails_C, sizes_C, spread, items=_of_whole_goals(fails_C, sizes_C)))
            covered = np.mean([one.lower <= share <= one.upper for one in found])
            within = np.mean([one.lower >= -MARGIN and one.upper <= MARGIN for one in found])
            texts.append(f"{covered:.3f}, {within:.3f}, {np.mean([one.upper - one.lower for one in found]):.3f}")
        print(f"{num_goals}, {share}, {runs}: {'; '.join(texts)}", flush=True)


def _of_whole_goals(fails_C: NDArray[np.int64], sizes_C: NDArray[np.int64]) -> ItemMoments:
    """All answers to a goal fail, or none."""
    failed = float(fails_C.sum())
    return ItemMoments(votes=float(sizes_C.sum()), sums=failed, squares=failed)


def _rate(yes_C: NDArray[np.int64], sizes_C: NDArray[np.int64]) -> tuple[float, float]:
    outcomes = [
        (str(goal), bool(yes)) for goal, (yes, size) in enumerate(zip(yes_C, sizes_C, strict=True)) for _ in range(size)
    ]
    rate = rate_of(outcomes)
    return rate.lower or 0.0, rate.upper or 0.0


def _print_failing(draws: int, random: np.random.Generator) -> None:
    """False claims where arms differ in how their seeds vary: 200 items, rates of 0.3 on average in both."""
    print("false positives: seeds of one arm vary by 9 points; 15 % of them fail (0.25 and 0.58)", flush=True)
    for runs in RUNS[:3]:
        rejected = []
        for spread_of in (_varying, _failing):
            rates_DR = [np.full((draws, runs[0]), 0.3), spread_of(random, (draws, runs[1]))]
            yes_DRC1 = [(random.random((*rates.shape, 200)) < rates[..., None])[..., None] for rates in rates_DR]
            a_DRCM, b_DRCM = (yes.astype(np.int64) for yes in yes_DRC1)
            found = [_interval(a, b, np.ones(200, dtype=np.int64)) for a, b in zip(a_DRCM, b_DRCM, strict=True)]
            rejected.append(np.mean([interval.p_value < LEVEL for interval in found]))
        print(f"runs {runs[0]} and {runs[1]}: {rejected[0]:.3f}; {rejected[1]:.3f}", flush=True)


def _varying(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return np.clip(random.normal(0.3, 0.09, shape), 0, 1)


def _failing(random: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return np.where(random.random(shape) < 0.15, 0.58, 0.2506)


def _is(scenario: Scenario, runs: tuple[int, int], size: int) -> bool:
    return (scenario.runs, scenario.cluster_size) == (runs, size)


def _print_ranges(name: str, rows: Sequence[tuple[Scenario, Shares]]) -> None:
    nothing = [row for scenario, row in rows if scenario.no_effect]
    mcnemar = [row.rejected_by_mcnemar for row in nothing if row.rejected_by_mcnemar is not None]
    covered = [row.covered for _, row in rows]
    print(
        f"{name}: covered {_range(covered)} (mean {np.mean(covered):.3f}, in 0.93-0.97"
        f" {sum(0.93 <= share <= 0.97 for share in covered)} of {len(covered)}), "
        f"by the bootstrap {_range([row.covered_by_bootstrap for _, row in rows])}; "
        f"false positives {_range([row.rejected for row in nothing])}"
        f" (mean {np.mean([row.rejected for row in nothing]):.3f})"
        f", above 0.05 {sum(row.rejected > 0.05 for row in nothing)} of {len(nothing)}; median width"
        f" {np.median([row.width for _, row in rows]):.3f}" + (f", by McNemar {_range(mcnemar)}" if mcnemar else ""),
        flush=True,
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f}-{max(values):.3f}"


if __name__ == "__main__":
    main()
