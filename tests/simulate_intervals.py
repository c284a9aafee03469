"""How often the interval of a difference holds the truth, and how often no effect is called one.

    python -m tests.simulate_intervals --draws 1000

Two arms answer the same items; items of one cluster (attack variants of one goal) resemble each other, and so do the
runs of one arm, which differ by their seed. Every scenario is drawn many times with a known difference, and judged by
the program's own functions. The percentile bootstrap (over runs, then over clusters) stands beside the interval that is
used. The tables of `docs/method.md` are what this prints.

Letters of shapes: R runs of an arm, C clusters, M items of a cluster.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from moe_cli.compare.intervals import cluster_interval
from moe_cli.compare.seeds import ArmSums, run_spread
from moe_cli.compare.significance import LEVEL, mcnemar_p, sign_flip_p

BOOTSTRAP_RESAMPLES = 400
SIZES = ((100, 1), (200, 1), (99, 3), (198, 3))  # items, items in a cluster
RATES = ((0.5, 0.5), (0.65, 0.33), (0.3, 0.2), (0.2, 0.1), (0.1, 0.1), (0.95, 0.85))  # of the two arms
LIKENESS = ((0.0, 0.5), (0.5, 0.5), (0.9, 0.2))  # of items in a cluster, and of the two arms on one item
SEEDED_RATES = ((0.5, 0.5), (0.3, 0.2), (0.1, 0.1))
RUNS = ((2, 2), (3, 3), (5, 5), (3, 1))  # of the two arms
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
    a_draws, b_draws = _outcomes(scenario, draws, random)
    sizes_C = np.full(scenario.num_items // scenario.cluster_size, scenario.cluster_size)
    found = [_judged(a_RCM, b_RCM, sizes_C) for a_RCM, b_RCM in zip(a_draws, b_draws, strict=True)]
    bootstrap = [
        _percentiles(a_RCM.sum(-1), b_RCM.sum(-1), scenario.num_items, random)
        for a_RCM, b_RCM in zip(a_draws, b_draws, strict=True)
    ]
    truth, alone = scenario.truth, scenario.runs == (1, 1)
    return Shares(
        covered=float(np.mean([lower <= truth <= upper for lower, upper, _, _ in found])),
        covered_by_bootstrap=float(
            np.mean([low <= truth + 1e-12 and truth <= high + 1e-12 for low, high in bootstrap])
        ),
        rejected=float(np.mean([p_value < LEVEL for _, _, p_value, _ in found])),
        rejected_by_mcnemar=float(np.mean([p_mcnemar < LEVEL for *_, p_mcnemar in found])) if alone else None,
        seed_spread=_seed_spread(scenario),
    )


def _judged(
    a_RCM: NDArray[np.int64], b_RCM: NDArray[np.int64], sizes_C: NDArray[np.int64]
) -> tuple[float, float, float, float]:
    """Interval, p of the verdict, and p of McNemar."""
    a_RC, b_RC = a_RCM.sum(-1), b_RCM.sum(-1)
    spread = run_spread([ArmSums(a_RC, seeded=True), ArmSums(b_RC, seeded=True)], sizes_C)
    interval = cluster_interval(b_RC.mean(0) - a_RC.mean(0), sizes_C, spread)
    if len(a_RC) > 1 or len(b_RC) > 1:
        return interval.lower, interval.upper, interval.p_value, 1.0
    change = b_RCM[0] - a_RCM[0]
    p_mcnemar = mcnemar_p(int((change == -1).sum()), int((change == 1).sum()))
    return interval.lower, interval.upper, sign_flip_p(b_RC[0] - a_RC[0]), p_mcnemar


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
    a_RC: NDArray[np.int64], b_RC: NDArray[np.int64], num_items: int, random: np.random.Generator
) -> tuple[float, float]:
    """Percentile bootstrap: runs of each arm with replacement, then clusters."""
    clusters = a_RC.shape[1]
    weights = random.multinomial(clusters, np.full(clusters, 1 / clusters), BOOTSTRAP_RESAMPLES)
    means = []
    for yes_RC in (a_RC, b_RC):
        runs = len(yes_RC)
        of_runs = random.multinomial(runs, np.full(runs, 1 / runs), BOOTSTRAP_RESAMPLES) / runs
        means.append(((of_runs @ yes_RC) * weights).sum(1) / num_items)
    lower, upper = np.quantile(means[1] - means[0], [LEVEL / 2, 1 - LEVEL / 2])
    return float(lower), float(upper)


def main() -> None:
    """Print a row per scenario, then the ranges."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--draws", type=int, default=1000)
    words.add_argument("--seed", type=int, default=7)
    typed = words.parse_args()
    random = np.random.default_rng(typed.seed)
    print("runs items cluster  rates        alike    seed (sd)      covered bootstrap  rejected McNemar", flush=True)
    found: list[tuple[Scenario, Shares]] = []
    for s in (*scenarios(), *seeded_scenarios()):
        row = shares(s, typed.draws, random)
        found.append((s, row))
        mcnemar = "-" if row.rejected_by_mcnemar is None else f"{row.rejected_by_mcnemar:.3f}"
        print(
            f"{s.runs[0]}, {s.runs[1]} {s.num_items:4d} {s.cluster_size:7d}  {s.rate_a:.2f} {s.rate_b:.2f}  "
            f"{s.within:.1f} {s.between:.1f}  {s.seed:5.3f} ({row.seed_spread:.3f})  "
            f"{row.covered:10.3f} {row.covered_by_bootstrap:9.3f}  {row.rejected:8.3f} {mcnemar:>7}",
            flush=True,
        )
    for size in (1, 3):
        _print_ranges(f"one run each, clusters of {size}", [r for r in found if _is(r[0], (1, 1), size)])
    for runs in RUNS:
        _print_ranges(f"runs {runs[0]} and {runs[1]}", [row for row in found if row[0].runs == runs])


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
        + (f", by McNemar {_range(mcnemar)}" if mcnemar else "")
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f}-{max(values):.3f}"


if __name__ == "__main__":
    main()
