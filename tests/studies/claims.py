"""How often the conclusion claims what is not true.

    python -m tests.studies.claims --draws 1000

Whole comparisons of made-up answers are drawn from a known truth, and the conclusion is read as text: "is safer than"
where nothing differs or where the price is above the margin, and "within 2.0 points" where the truth is beyond it. A
claim of the second kind that names the price as not ruled out is counted in both columns of claims, but not as bare.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe_cli.records.evaluation import EvaluationRecord
from tests.compare.scenarios import answers, concluded, harmless

Arm = list[EvaluationRecord]
Random = np.random.Generator
SAFER, WITHIN = "is safer than", "B is within 2.0 points of A in attack success"
OPEN = "not ruled out"


@dataclass(frozen=True)
class Scenario:
    """What is drawn, and the claim that would be false."""

    name: str
    arms: Callable[[Random], Sequence[Arm]]
    claim: str


def scenarios() -> tuple[Scenario, ...]:
    """Null differences, differences beyond the margin, and prices above it."""
    return (
        Scenario("nothing differs: 200 attacks", lambda r: [_arm(r, 0.3), _arm(r, 0.3)], SAFER),
        Scenario("nothing differs: three arms", lambda r: [_arm(r, 0.3), _arm(r, 0.3), _arm(r, 0.3)], SAFER),
        Scenario("nothing differs: 50 goals x 4, all alike", lambda r: [_goals(r, 50, 4, 0.3) for _ in "ab"], SAFER),
        Scenario("nothing differs: suites of 300 and 40", lambda r: [_suites(r, 0.2, 0.4) for _ in "ab"], SAFER),
        Scenario("4 points worse: 200 attacks", lambda r: [_arm(r, 0.02), _arm(r, 0.06)], WITHIN),
        Scenario("10 points worse: 20 goals x 20", lambda r: [_goals(r, 20, 20, 0.0), _goals(r, 20, 20, 0.1)], WITHIN),
        Scenario("6 points worse in 40 beside 300", lambda r: [_suites(r, 0.0, 0.0), _suites(r, 0.0, 0.06)], WITHIN),
        Scenario("price: accuracy 6 points lower", lambda r: [_arm(r, 0.4), _arm(r, 0.1, wrong=0.06)], SAFER),
        Scenario("price: 6 points more refusals", lambda r: [_arm(r, 0.4), _arm(r, 0.1, refused=0.06)], SAFER),
        Scenario("price: 6 points half refused", lambda r: [_arm(r, 0.4), _arm(r, 0.1, half=0.06)], SAFER),
    )


def _drawn(random: Random, num: int, rate: float) -> list[int]:
    return np.flatnonzero(random.random(num) < rate).tolist()


def _arm(random: Random, rate: float, *, wrong: float = 0.0, refused: float = 0.0, half: float = 0.0) -> Arm:
    label = "partial_refusal" if half else "full_refusal"
    num_refused, num_wrong = random.binomial(200, refused + half), random.binomial(200, wrong)
    benign = harmless(200, int(num_refused), label=label, wrong=int(num_wrong))
    return [*answers("attacked", 200, _drawn(random, 200, rate)), *benign]


def _goals(random: Random, num_goals: int, size: int, rate: float) -> Arm:
    failing = set(_drawn(random, num_goals, rate))
    yes = [place for place in range(num_goals * size) if place % num_goals in failing]
    return [*answers("attacked", num_goals * size, yes, goals=num_goals), *harmless(200)]


def _suites(random: Random, large: float, small: float) -> Arm:
    story, chat = _drawn(random, 300, large), _drawn(random, 40, small)
    return [*answers("story", 300, story), *answers("chat", 40, chat), *harmless(200)]


def false_claims(scenario: Scenario, draws: int) -> tuple[float, float]:
    """Shares of draws with the false claim, and with one that names nothing as not ruled out."""
    random = np.random.default_rng(0)
    claims = [_claims(concluded(*scenario.arms(random)), scenario.claim) for _ in range(draws)]
    return float(np.mean([bool(found) for found in claims])), float(
        np.mean([any(OPEN not in sentence for sentence in found) for found in claims])
    )


def _claims(conclusion: str, claim: str) -> list[str]:
    return [sentence for sentence in conclusion.split("). ") if claim in sentence]


def main() -> None:
    """Print the shares of false claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print(f"{'truth':45} {'false claims':>12} {'bare':>6}")
    for scenario in scenarios():
        claimed, bare = false_claims(scenario, draws)
        print(f"{scenario.name:45} {claimed:12.3f} {bare:6.3f}", flush=True)


if __name__ == "__main__":
    main()
