"""How often the verdict finds the difference that it says it would find with 80 % power.

    python -m tests.studies.power --draws 5000

Pairs of arms without a difference are drawn and the mean of what they call detectable is taken; then pairs that differ
by just that are drawn and judged by the sign-flip p with the worst of Holm's factors. Likeness is of a Gaussian copula:
of items of a cluster (within), and of the two arms on one item (between).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from moe_cli.stats.clusters import item_moments
from moe_cli.stats.intervals import cluster_interval
from moe_cli.stats.power import Design, detectable_effect
from moe_cli.stats.significance import LEVEL, sign_flip_p

NUM_SAID = 200
SIZES = ((50, 1, 0.05), (100, 1, 0.1), (200, 1, 0.2), (200, 1, 0.5), (800, 1, 0.3), (800, 1, 0.02), (10000, 1, 0.06))
CLUSTERED = ((198, 3, 0.3, 0.5), (198, 3, 0.1, 0.5), (800, 4, 0.3, 0.9), (800, 4, 0.1, 0.5))


@dataclass(frozen=True)
class Scenario:
    """What is drawn."""

    num_items: int
    cluster_size: int
    rate: float  # of both arms, without a difference
    within: float
    between: float
    num_tests: int


def scenarios() -> Iterator[Scenario]:
    """Sizes and rates, items alone and in clusters, alone and with two more tests."""
    for num_tests in (1, 3):
        for num_items, size, rate in SIZES:
            yield Scenario(num_items, size, rate, 0.0, 0.5, num_tests)
        for num_items, size, rate, within in CLUSTERED:
            yield Scenario(num_items, size, rate, within, 0.5, num_tests)


def said_and_found(scenario: Scenario, num_said: int, draws: int, random: np.random.Generator) -> tuple[float, float]:
    """The mean detectable difference, and how often one of that size is found."""
    said = float(np.mean([_detectable(scenario, random) for _ in range(num_said)]))
    rate_b = min(1 - 1e-9, scenario.rate + said)
    found = 0
    for _ in range(draws):
        a_CM, b_CM = _outcomes(scenario, rate_b, random)
        found += sign_flip_p((b_CM - a_CM).sum(1)) < LEVEL / scenario.num_tests
    return said, found / draws


def _detectable(scenario: Scenario, random: np.random.Generator) -> float:
    a_CM, b_CM = _outcomes(scenario, scenario.rate, random)
    sizes_C, change_CM = np.full(len(a_CM), scenario.cluster_size), b_CM - a_CM
    interval = cluster_interval(change_CM.sum(1), sizes_C, items=item_moments(change_CM))
    design = Design(
        a_n=a_CM.ravel().astype(np.float64),
        b_n=b_CM.ravel().astype(np.float64),
        vote_n=np.ones(a_CM.size),
        differences_C=change_CM.sum(1).astype(np.float64),
        sizes_C=sizes_C.astype(np.float64),
        exact=True,
        step=1.0,
        error=interval.error,
        error_of_items=interval.error_of_items,
        freedom=interval.freedom,
    )
    found = detectable_effect(design, scenario.num_tests)
    return 1.0 if found is None else found


def _outcomes(
    scenario: Scenario, rate_b: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    clusters, size = scenario.num_items // scenario.cluster_size, scenario.cluster_size
    shared = [random.standard_normal((clusters, last)) for last in (1, size)]

    def outcomes(rate: float) -> NDArray[np.int64]:
        cluster, item = (
            np.sqrt(scenario.between) * of_both + np.sqrt(1 - scenario.between) * random.standard_normal(of_both.shape)
            for of_both in shared
        )
        latent = np.sqrt(scenario.within) * cluster + np.sqrt(1 - scenario.within) * item
        return (latent < ndtri(rate)).astype(np.int64)

    return outcomes(scenario.rate), outcomes(rate_b)


def main() -> None:
    """Print a row per scenario."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--draws", type=int, default=5000)
    words.add_argument("--seed", type=int, default=7)
    typed = words.parse_args()
    random = np.random.default_rng(typed.seed)
    print("| items | cluster | rate | within | tests | said, points | found |\n|" + " --- |" * 7, flush=True)
    for s in scenarios():
        said, found = said_and_found(s, NUM_SAID, typed.draws, random)
        print(
            f"| {s.num_items} | {s.cluster_size} | {s.rate} | {s.within} | {s.num_tests} | {100 * said:.1f}"
            f" | {found:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
