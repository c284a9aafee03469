"""How often the interval of a mean of unequal suites covers the truth, and how often no difference is called one.

    python -m tests.studies.suites --draws 5000

One run each. Items are single goals, or every suite asks all goals. The outcomes of the two arms on one item, and those
of one goal, are alike by a Gaussian copula. The last columns are the difference that arms without a difference call
detectable, and how often the verdict is "worse" where the arms differ by it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from moe_cli.records.comparison import PairedDifference
from moe_cli.stats.outcomes import PairedOutcomes
from moe_cli.stats.paired import difference_of_pairs
from moe_cli.stats.significance import LEVEL

MARGIN = 0.02
BETWEEN, WITHIN = 0.5, 0.4  # likeness of the arms on one item, of the items of one goal
NUM_SAID = 200


@dataclass(frozen=True)
class Scenario:
    """Suites with their numbers of items and rates."""

    sizes: tuple[int, ...]
    rates: tuple[float, ...]  # of arm a
    num_goals: int = 0  # that every suite asks; 0: every item is a goal of its own


SCENARIOS = (
    Scenario((400, 100), (0.3, 0.3)),
    Scenario((400, 100), (0.05, 0.3)),
    Scenario((1000, 50), (0.1, 0.1)),
    Scenario((1000, 50), (0.02, 0.02)),
    Scenario((300, 100, 50), (0.5, 0.2, 0.1)),
    Scenario((400, 100), (0.3, 0.3), num_goals=100),
    Scenario((600, 100), (0.1, 0.3), num_goals=50),
)


def pair(scenario: Scenario, shift: float, random: np.random.Generator) -> PairedDifference:
    """The difference of two arms whose rates differ by the shift in every suite."""
    suites = np.repeat(np.arange(len(scenario.sizes)), scenario.sizes)
    asked = [np.arange(size) % (scenario.num_goals or size) for size in scenario.sizes]
    goals = np.concatenate(asked) if scenario.num_goals else np.arange(len(suites))
    rate_n = np.array(scenario.rates)[suites]
    a_n, b_n = _latent(goals, random)
    outcomes = _outcomes(suites, goals, a_n < ndtri(rate_n), b_n < ndtri(rate_n + shift))
    return difference_of_pairs([outcomes], margin=MARGIN)[0]


def _latent(goals: NDArray[np.intp], random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    of_goal = random.standard_normal((3, int(goals.max()) + 1))[:, goals]
    of_item = random.standard_normal((3, len(goals)))
    both, a, b = np.sqrt(WITHIN) * of_goal + np.sqrt(1 - WITHIN) * of_item
    return np.sqrt(BETWEEN) * both + np.sqrt(1 - BETWEEN) * a, np.sqrt(BETWEEN) * both + np.sqrt(1 - BETWEEN) * b


def _outcomes(
    suites: NDArray[np.intp], goals: NDArray[np.intp], a_n: NDArray[np.bool_], b_n: NDArray[np.bool_]
) -> PairedOutcomes:
    return PairedOutcomes(
        metric="attack success",
        better="lower",
        primary=True,
        missing_is_no=False,
        ids=tuple(map(str, range(len(suites)))),
        suites=tuple(map(str, suites)),
        clusters=tuple(map(str, goals)),
        a=(tuple(a_n.tolist()),),
        b=(tuple(b_n.tolist()),),
    )


def main() -> None:
    """Print coverage with and without a difference, false positives, mean width, and power."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5000)
    draws = parser.parse_args().draws
    print(f"{'suites (rates), goals':40} covered     +10 rejected  width   said  found")
    for scenario in SCENARIOS:
        random = np.random.default_rng(0)
        null = [pair(scenario, 0.0, random) for _ in range(draws)]
        moved = [pair(scenario, 0.1, random) for _ in range(draws)]
        said = float(np.mean([1.0 if one.detectable is None else one.detectable for one in null[:NUM_SAID]]))
        found = [pair(scenario, said, random).verdict == "worse" for _ in range(draws)]
        print(
            f"{f'{scenario.sizes} {scenario.rates}, {scenario.num_goals or sum(scenario.sizes)}':40}"
            f" {np.mean([one.lower <= 0 <= one.upper for one in null]):7.3f}"
            f" {np.mean([one.lower <= 0.1 <= one.upper for one in moved]):7.3f}"
            f" {np.mean([one.p_value < LEVEL for one in null]):8.3f}"
            f" {np.mean([one.upper - one.lower for one in null]):6.3f} {said:6.3f} {np.mean(found):6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
