"""Which arms are on the frontier, and the smallest budget that is not worse than training everything.

An arm is off the frontier if another one with no larger share is better in one metric and within the margin or better
in all others, by the verdicts of `moe compare` with Benjamini-Hochberg over all pairs and metrics. What cannot be told
apart stays on it.

The smallest sufficient budget is tested in a fixed sequence, from the largest budget down, and the first failure ends
it. Each test is at the level of the interval, and the order is fixed before any result, so that the chance to call any
insufficient budget sufficient is at most that level (Maurer, Hothorn and Lehmacher 1995). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from moe_cli.records.budget_sweep import BudgetTest, SufficientBudget
from moe_cli.records.comparison import PairedDifference
from moe_cli.records.drift import Estimate
from moe_cli.stats.metrics import ATTACK_SUCCESS, OVER_REFUSAL, PRIMARY
from moe_cli.stats.outcomes import PairedOutcomes, RunItems, paired_outcomes
from moe_cli.stats.paired import ROUNDING, difference_of_pairs, paired_verdict
from moe_cli.stats.scored_items import difference_interval, scored_items
from moe_cli.stats.significance import benjamini_hochberg

OPPOSITE = {"better": "worse", "worse": "better"}
NOT_WORSE = ("better", "within margin")
TESTED = (ATTACK_SUCCESS, OVER_REFUSAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredArm:
    """An arm with the answers of its runs to the same items."""

    name: str
    budget: float
    share: float  # trained share of all parameters
    runs: tuple[RunItems, ...]
    seeded: bool = True  # False: not trained


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two arms with what is measured of both: differences of b minus a."""

    a: MeasuredArm
    b: MeasuredArm
    differences: tuple[PairedDifference, ...]


def dominating_arms(arms: Sequence[MeasuredArm], margin: float) -> dict[str, str]:
    """The name of an arm that beats it, for each arm that is off the frontier; of several the one of least share."""
    pairs = _compared(arms, margin)
    beaten: dict[str, MeasuredArm] = {}
    for winner, loser in (found for pair in pairs for found in _dominance(pair)):
        if loser.name not in beaten or winner.share < beaten[loser.name].share:
            beaten[loser.name] = winner
    return {name: winner.name for name, winner in beaten.items()}


def _compared(arms: Sequence[MeasuredArm], margin: float) -> list[_Pair]:
    outcomes = [_primary_outcomes(arm) for arm in arms]
    pairs = [
        _Pair(a, b, found)
        for (a, of_a), (b, of_b) in combinations(zip(arms, outcomes, strict=True), 2)
        if (found := _differences(of_a, of_b, margin=margin, seeded=(a.seeded, b.seeded))) is not None
    ]
    adjusted = iter(benjamini_hochberg([one.p_value for pair in pairs for one in pair.differences]))
    corrected = []
    for pair in pairs:
        own = [replace(one, p_adjusted=next(adjusted)) for one in pair.differences]
        corrected.append(
            replace(pair, differences=tuple(replace(one, verdict=paired_verdict(one, margin)) for one in own))
        )
    return corrected


def _primary_outcomes(arm: MeasuredArm) -> Mapping[str, PairedOutcomes]:
    """Its outcomes in each primary metric, once for all pairs: all arms hold the same items."""
    return {metric.metric: metric for metric in paired_outcomes(arm.runs, arm.runs) if metric.metric in PRIMARY}


def _differences(
    a: Mapping[str, PairedOutcomes], b: Mapping[str, PairedOutcomes], *, margin: float, seeded: tuple[bool, bool]
) -> tuple[PairedDifference, ...] | None:
    """The primary metrics of b minus a; None where one of them has no item that every run could score."""
    metrics = [replace(metric, b=b[name].a) for name, metric in a.items() if name in b]
    if not metrics or any(scored_items(metric) is None for metric in metrics):
        return None
    return difference_of_pairs(metrics, margin=margin, seeded=seeded)


def _dominance(pair: _Pair) -> Iterator[tuple[MeasuredArm, MeasuredArm]]:
    """The winner and the loser, where one arm beats the other."""
    verdicts = [one.verdict for one in pair.differences]
    for verdicts_of_winner, winner, loser in (
        (verdicts, pair.b, pair.a),
        ([OPPOSITE.get(verdict, verdict) for verdict in verdicts], pair.a, pair.b),
    ):
        wins = "better" in verdicts_of_winner and all(verdict in NOT_WORSE for verdict in verdicts_of_winner)
        if wins and winner.share <= loser.share:
            yield winner, loser


def sufficient_budget(
    method: str, arms: Sequence[MeasuredArm], baseline: MeasuredArm | None, margin: float
) -> SufficientBudget:
    """The smallest sufficient budget of a method, from its arms at all budgets; every arm that counts has all seeds."""
    if baseline is None:
        return _untested(method, "the baseline lacks a point, and nothing can be tested against it")
    tests: list[BudgetTest] = []
    smallest = None
    for arm in sorted(arms, key=lambda arm: arm.budget, reverse=True):
        test = budget_test(arm, baseline, margin)
        if test is None:
            unknown = f"attack success or over-refusal of {arm.name} or of the baseline is not known"
            reason = f"{unknown if arm.runs else f'{arm.name} lacks a point'}, and no smaller budget is tested"
            return SufficientBudget(method=method, budget=smallest, tests=tuple(tests), untested=reason)
        tests.append(test)
        if not test.sufficient:
            break
        smallest = arm.budget
    return SufficientBudget(method=method, budget=smallest, tests=tuple(tests), untested=None)


def _untested(method: str, reason: str) -> SufficientBudget:
    return SufficientBudget(method=method, budget=None, tests=(), untested=reason)


def budget_test(arm: MeasuredArm, baseline: MeasuredArm, margin: float) -> BudgetTest | None:
    """Whether the arm is not worse than the baseline by more than the margin, in attack success and in over-refusal.

    Both have to pass, which needs no correction. None where one of them was not measured.
    """
    if not arm.runs or not baseline.runs:
        return None
    measured: dict[str, Estimate] = {}
    for metric in paired_outcomes(baseline.runs, arm.runs):
        if metric.metric in TESTED and (found := difference_interval(metric)) is not None:
            measured[metric.metric] = Estimate(value=found.difference, lower=found.lower, upper=found.upper, n=found.n)
    if measured.keys() != set(TESTED):
        return None
    return BudgetTest(
        arm=arm.name,
        budget=arm.budget,
        share=arm.share,
        attack_success=measured[ATTACK_SUCCESS],
        over_refusal=measured[OVER_REFUSAL],
        sufficient=all(one.upper is not None and one.upper <= margin + ROUNDING for one in measured.values()),
    )
