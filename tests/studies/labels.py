"""How often differences that people's labels correct cover the truth, beside the judge alone and other corrections.

    python -m tests.studies.labels --draws 5000

N = 800 items, one run each, every item a goal of its own; n of them are labelled without an error, drawn at random or
with items that flip three times as likely. The truth of an item in the two arms is alike by a Gaussian copula; the
judge errs on every answer by itself. In the last scenarios every goal is asked four times, or harm is rare and the
judge sees none of b's. A false claim: "better" or "worse" where there is no difference or the other sign, or "within
margin" where the difference is larger.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from moe_cli.records.comparison import PairedDifference
from moe_cli.stats.labelled import ItemLabels, PairLabels
from moe_cli.stats.outcomes import PairedOutcomes
from moe_cli.stats.paired import difference_of_pairs

MARGIN = 0.02
BETWEEN, WITHIN = 0.2, 0.5  # likeness of the arms on one item, of the items of one goal
METRIC = "attack success"

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scenario:
    """Two arms, a judge and its labels."""

    name: str
    rates: tuple[float, float]  # people's
    sensitivity: tuple[float, float]
    specificity: tuple[float, float]
    num_labels: int
    num_items: int = 800
    goal_size: int = 1
    flip_factor: float = 1.0

    @property
    def truth(self) -> float:
        """Of the difference."""
        return self.rates[1] - self.rates[0]


SCENARIOS = (
    Scenario("-20; .85 in both arms", (0.25, 0.05), (0.85, 0.85), (0.85, 0.85), 100),
    Scenario("0; misses half of b's harm", (0.16, 0.16), (1.0, 0.5), (1.0, 1.0), 100),
    Scenario("-10; calls 30 % of b's harmless harm", (0.2, 0.1), (0.95, 0.95), (0.95, 0.7), 200),
    Scenario("-5; .95 in both arms", (0.19, 0.14), (0.95, 0.95), (0.95, 0.95), 100),
    Scenario("-5; .95 in both arms", (0.19, 0.14), (0.95, 0.95), (0.95, 0.95), 200),
    Scenario("-5; .95, flips three times as likely", (0.19, 0.14), (0.95,) * 2, (0.95,) * 2, 100, flip_factor=3),
    Scenario("-20; .85 in both arms, goals of 4", (0.25, 0.05), (0.85, 0.85), (0.85, 0.85), 100, goal_size=4),
    Scenario("+3; rare, misses all of b's harm", (0.0, 0.03), (0.9, 0.0), (1.0, 1.0), 50),
    Scenario("+3; rare, misses all of b's harm", (0.0, 0.03), (0.9, 0.0), (1.0, 1.0), 100),
)


@dataclass(frozen=True)
class Estimate:
    """Of one method in one draw."""

    value: float
    lower: float
    upper: float
    false: bool


def estimates(scenario: Scenario, random: np.random.Generator) -> dict[str, Estimate | None]:
    """What every method says of one draw; None: it says nothing."""
    goals = np.arange(scenario.num_items) // scenario.goal_size
    people = _alike(scenario, goals, random)
    a, b = (_judged(arm, place, scenario, random) for place, arm in enumerate(people))
    labels = _labels(scenario, people, a != b, random)
    outcomes = _outcomes(goals, a, b)
    found = difference_of_pairs([outcomes], margin=MARGIN, labels=PairLabels(of_metric={METRIC: labels}))[0]
    correction = found.correction
    if correction is None:
        raise ValueError(f"{scenario.name}: too few labels")
    judge, classic = correction.judge, correction.rogan_gladen
    return {
        "naive": _estimate(judge.difference, judge.lower, judge.upper, scenario.truth),
        "Rogan-Gladen": None
        if classic is None or classic.lower is None or classic.upper is None
        else _estimate(classic.value, classic.lower, classic.upper, scenario.truth),
        "PPI++": _said(found, scenario.truth),
        "as printed": _as_printed(scenario, people, a, b, labels),
        "labels only": _of_labels(labels, scenario.truth),
    }


def _said(found: PairedDifference, truth: float) -> Estimate:
    """With its claim, which is false where it is not so."""
    sign = {"better": -1, "worse": 1}.get(found.verdict)
    false = truth * sign <= 0 if sign else found.verdict == "within margin" and abs(truth) > MARGIN
    return Estimate(found.difference, found.lower, found.upper, bool(false))


def _estimate(value: float, lower: float, upper: float, truth: float) -> Estimate:
    """With the claim of its interval: a sign that the truth has not, or a margin that it is not in, is false."""
    sign = 1 if lower > 0 else -1 if upper < 0 else 0
    inside = lower >= -MARGIN and upper <= MARGIN
    false = abs(truth) > MARGIN if inside else bool(sign) and truth * sign <= 0
    return Estimate(value, lower, upper, false)


def _alike(scenario: Scenario, goals: NDArray[np.intp], random: np.random.Generator) -> tuple[Bools, Bools]:
    num = scenario.num_items
    within = WITHIN if scenario.goal_size > 1 else 0.0
    of_goal = random.standard_normal((3, num))[:, goals]
    both, a, b = np.sqrt(within) * of_goal + np.sqrt(1 - within) * random.standard_normal((3, num))
    latent = [np.sqrt(BETWEEN) * both + np.sqrt(1 - BETWEEN) * own for own in (a, b)]
    first, second = (one < ndtri(rate) for one, rate in zip(latent, scenario.rates, strict=True))
    return first, second


def _judged(people: Bools, place: int, scenario: Scenario, random: np.random.Generator) -> Bools:
    chance = random.random(len(people))
    return np.where(people, chance < scenario.sensitivity[place], chance >= scenario.specificity[place])


def _labels(
    scenario: Scenario, people: tuple[Bools, Bools], flips: Bools, random: np.random.Generator
) -> dict[str, ItemLabels]:
    labels = {}
    for ids, num in _strata(scenario, flips):
        for place in random.choice(ids, num, replace=False):
            a, b = (float(arm[place]) for arm in people)
            labels[str(place)] = ItemLabels(a=a, b=b, probability=num / len(ids))
    return labels


def _strata(scenario: Scenario, flips: Bools) -> Iterator[tuple[NDArray[np.intp], int]]:
    if scenario.flip_factor == 1:
        yield np.arange(scenario.num_items), scenario.num_labels
        return
    weight = scenario.flip_factor * flips.sum()
    num = min(int(flips.sum()), round(scenario.num_labels * weight / (weight + (~flips).sum())))
    yield np.flatnonzero(flips), num
    yield np.flatnonzero(~flips), scenario.num_labels - num


def _outcomes(goals: NDArray[np.intp], a: Bools, b: Bools) -> PairedOutcomes:
    return PairedOutcomes(
        metric=METRIC,
        better="lower",
        primary=True,
        missing_is_no=False,
        ids=tuple(map(str, range(len(goals)))),
        suites=("attacked",) * len(goals),
        clusters=tuple(map(str, goals)),
        a=(tuple(a.tolist()),),
        b=(tuple(b.tolist()),),
    )


def _as_printed(
    scenario: Scenario, people: tuple[Bools, Bools], a: Bools, b: Bools, labels: dict[str, ItemLabels]
) -> Estimate | None:
    """With pseudo-items that are divided by n once more, [Var_L + 2 / (n + 2)^2] / n; of equal drawing alone."""
    if scenario.flip_factor != 1 or scenario.goal_size > 1:
        return None
    drawn = np.isin(np.arange(len(a)), [int(id) for id in labels])
    h, g = people[1].astype(float) - people[0], b.astype(float) - a
    n, free = int(drawn.sum()), int((~drawn).sum())
    variance = float(g[drawn].var(ddof=1))
    weight = float(np.clip(np.cov(h[drawn], g[drawn])[0, 1] / variance / (1 + n / free), 0, 1)) if variance else 0.0
    rest = h[drawn] - weight * g[drawn]
    value = weight * float(g[~drawn].mean()) + float(rest.mean())
    error = np.sqrt(weight**2 * g[~drawn].var(ddof=1) / free + (rest.var(ddof=1) + 2 / (n + 2) ** 2) / n)
    half = float(stdtrit(n - 1, 0.975)) * float(error)
    return _estimate(value, value - half, value + half, scenario.truth)


def _of_labels(labels: dict[str, ItemLabels], truth: float) -> Estimate:
    """The mean of the labels, each with its weight, with the t interval of as many items."""
    differences = np.array([(one.b or 0.0) - (one.a or 0.0) for one in labels.values()])
    weights = np.array([1 / one.probability for one in labels.values()])
    weights /= weights.sum()
    value, num = float(weights @ differences), len(differences)
    error = np.sqrt(num / (num - 1) * float((weights**2 * (differences - value) ** 2).sum()))
    half = float(stdtrit(num - 1, 0.975)) * float(error)
    return _estimate(value, value - half, value + half, truth)


@dataclass(frozen=True)
class Shares:
    """Of many draws."""

    mean: float
    covered: float
    half_width: float
    false: float


def shares(scenario: Scenario, draws: int, random: np.random.Generator) -> dict[str, Shares]:
    """What every method does over many draws; methods that say nothing in one of them are left out."""
    every = [estimates(scenario, random) for _ in range(draws)]
    found = {}
    for method in every[0]:
        known = [one for draw in every if (one := draw[method])]
        if len(known) == draws:
            found[method] = Shares(
                mean=float(np.mean([one.value for one in known])),
                covered=float(np.mean([one.lower <= scenario.truth <= one.upper for one in known])),
                half_width=float(np.mean([(one.upper - one.lower) / 2 for one in known])),
                false=float(np.mean([one.false for one in known])),
            )
    return found


def main() -> None:
    """Print mean, coverage, half-width and false claims of every method, in points and shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5000)
    draws = parser.parse_args().draws
    print(f"{'truth; judge':40} {'labels':>6}  {'method':12}  mean  covered  half-width  false claims")
    for scenario in SCENARIOS:
        for method, found in shares(scenario, draws, np.random.default_rng(0)).items():
            print(
                f"{scenario.name:40} {scenario.num_labels:6}  {method:12} {100 * found.mean:+6.1f} {found.covered:7.3f}"
                f" {100 * found.half_width:9.1f} {found.false:12.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
