"""How often the interval of a paired difference holds the truth, and how often no effect is called one.

    python -m tests.simulate_intervals --draws 1000

Two runs answer the same items; items of one cluster (attack variants of one goal) resemble each other. Every scenario
is drawn many times with a known difference, and judged by the program's own functions. The percentile bootstrap over
clusters stands beside the interval that is used. The tables of `docs/method.md` are what this prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from moe_cli.compare.intervals import cluster_interval
from moe_cli.compare.significance import mcnemar_p, sign_flip_p

LEVEL = 0.05
BOOTSTRAP_RESAMPLES = 400
SIZES = ((100, 1), (200, 1), (99, 3), (198, 3))  # items, items in a cluster
RATES = ((0.5, 0.5), (0.65, 0.33), (0.3, 0.2), (0.2, 0.1), (0.1, 0.1), (0.95, 0.85))  # of the two runs
LIKENESS = ((0.0, 0.5), (0.5, 0.5), (0.9, 0.2))  # of items in a cluster, and of the two runs on one item


@dataclass(frozen=True)
class Scenario:
    """What is drawn."""

    num_items: int
    cluster_size: int
    rate_a: float
    rate_b: float
    within: float  # share of an answer's variance that its cluster decides
    between: float  # correlation of the two runs

    @property
    def no_effect(self) -> bool:
        return self.rate_a == self.rate_b


@dataclass(frozen=True)
class Shares:
    """Of the draws of one scenario."""

    covered: float
    covered_by_bootstrap: float
    rejected_by_sign_flips: float
    rejected_by_mcnemar: float


def scenarios() -> Iterator[Scenario]:
    """Every size with every pair of rates; with clusters of several items also every likeness."""
    for num_items, size in SIZES:
        for rate_a, rate_b in RATES:
            for within, between in LIKENESS if size > 1 else LIKENESS[:1]:
                yield Scenario(num_items, size, rate_a, rate_b, within, between)


def shares(scenario: Scenario, draws: int, random: np.random.Generator) -> Shares:
    """Draw the scenario and judge every draw."""
    differences_RCM = _differences(scenario, draws, random)
    sums_RC = differences_RCM.sum(-1)
    sizes_C = np.full(sums_RC.shape[1], scenario.cluster_size)
    truth = scenario.rate_b - scenario.rate_a
    intervals = [cluster_interval(sums_C, sizes_C) for sums_C in sums_RC]
    bootstrap = [_percentiles(sums_C, scenario.num_items, random) for sums_C in sums_RC]
    changed = [(int((draw == -1).sum()), int((draw == 1).sum())) for draw in differences_RCM]
    return Shares(
        covered=float(np.mean([found.lower <= truth <= found.upper for found in intervals])),
        covered_by_bootstrap=float(
            np.mean([lower <= truth + 1e-12 and truth <= upper + 1e-12 for lower, upper in bootstrap])
        ),
        rejected_by_sign_flips=float(np.mean([sign_flip_p(sums_C) < LEVEL for sums_C in sums_RC])),
        rejected_by_mcnemar=float(np.mean([mcnemar_p(*counts) < LEVEL for counts in changed])),
    )


def _differences(scenario: Scenario, draws: int, random: np.random.Generator) -> NDArray[np.int64]:
    """b - a of every item [draws, clusters, items in a cluster], from a Gaussian copula."""
    shape = (draws, scenario.num_items // scenario.cluster_size, scenario.cluster_size)
    of_cluster, of_item = random.standard_normal((*shape[:2], 1)), random.standard_normal(shape)

    def outcomes(rate: float) -> NDArray[np.bool_]:
        alike, own = np.sqrt(scenario.between), np.sqrt(1 - scenario.between)
        cluster = alike * of_cluster + own * random.standard_normal((*shape[:2], 1))
        item = alike * of_item + own * random.standard_normal(shape)
        latent = np.sqrt(scenario.within) * cluster + np.sqrt(1 - scenario.within) * item
        return latent < ndtri(rate)

    return outcomes(scenario.rate_b).astype(np.int64) - outcomes(scenario.rate_a).astype(np.int64)


def _percentiles(sums_C: NDArray[np.int64], num_items: int, random: np.random.Generator) -> tuple[float, float]:
    drawn = random.integers(0, len(sums_C), size=(BOOTSTRAP_RESAMPLES, len(sums_C)))
    lower, upper = np.quantile(sums_C[drawn].sum(1) / num_items, [LEVEL / 2, 1 - LEVEL / 2])
    return float(lower), float(upper)


def main() -> None:
    """Print a row per scenario, then the ranges."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--draws", type=int, default=1000)
    words.add_argument("--seed", type=int, default=7)
    typed = words.parse_args()
    random = np.random.default_rng(typed.seed)
    found = [(scenario, shares(scenario, typed.draws, random)) for scenario in scenarios()]
    print("items cluster  rates        alike      covered bootstrap  sign-flips McNemar")
    for s, row in found:
        print(
            f"{s.num_items:5d} {s.cluster_size:7d}  {s.rate_a:.2f} {s.rate_b:.2f}  {s.within:.1f} {s.between:.1f}  "
            f"{row.covered:10.3f} {row.covered_by_bootstrap:9.3f}  {row.rejected_by_sign_flips:10.3f} "
            f"{row.rejected_by_mcnemar:7.3f}"
        )
    for size in (1, 3):
        rows = [row for scenario, row in found if scenario.cluster_size == size]
        nothing = [row for scenario, row in found if scenario.cluster_size == size and scenario.no_effect]
        print(
            f"clusters of {size}: covered {_range([r.covered for r in rows])}, "
            f"by the bootstrap {_range([r.covered_by_bootstrap for r in rows])}; "
            f"false positives by sign flips {_range([r.rejected_by_sign_flips for r in nothing])}, "
            f"by McNemar {_range([r.rejected_by_mcnemar for r in nothing])}"
        )


def _range(values: list[float]) -> str:
    return f"{min(values):.3f}-{max(values):.3f}"


if __name__ == "__main__":
    main()
