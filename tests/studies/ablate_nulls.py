"""How often an ablation finds something in nothing, and how often it says that there is nothing where there is.

    python -m tests.studies.ablate_nulls --runs 2000

In the first half the selected set is one more draw from the strata, so that nothing can be specific to it. One expert
makes most of the effect of any set that holds it, as on the tiny model. Three tables: p-values with the control sets of
the program, the same with control sets that avoid the selected experts, and the verdicts where outcomes of items are
drawn too. In the second half the selected experts carry all of the harm, just more than the margin, or no expert does
more than another, and control sets share more and more of the selected experts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moe_cli.ablate.specificity import (
    AblationEvidence,
    contrast_of,
    effect_estimate,
    mean_changes,
    specificity_verdict,
)
from moe_cli.stats.control_sets import (
    chance_of_same_set,
    draw_control_sets,
    mean_overlap,
    most_shared,
    strata_of,
)
from moe_cli.stats.significance import rank_p

LAYERS, EXPERTS, PER_LAYER = 4, 16, 3
DOMINANT, OTHERS = 0.5, 0.01  # what the strongest expert does alone, and what each other one does at most
GOALS, ITEMS_OF_GOAL = 40, 3
OF_STRATUM = 20  # experts of a stratum where the overlap is given
MARGIN, EVERY_EXPERT = 0.1, 0.02  # the program's; the effect of any set of that size where no expert has more
OVERLAPS, NUMS_OF_GOALS = (0.05, 0.2, 0.5, 0.8, 0.95), (20, 40, 120, 400)

Bools = NDArray[np.bool_]


def random_experiment(generator: np.random.Generator) -> tuple[Bools, NDArray[np.int64], NDArray[np.float64]]:
    """A set drawn from the strata, the experts' use, and what each does alone, each [L, E]."""
    use_LE = generator.integers(0, 10_000, (LAYERS, EXPERTS))
    effect_LE = generator.uniform(0, OTHERS, (LAYERS, EXPERTS))
    effect_LE.flat[generator.integers(LAYERS * EXPERTS)] = DOMINANT
    shape_LE = np.zeros((LAYERS, EXPERTS), dtype=bool)
    for layer in range(LAYERS):
        shape_LE[layer, generator.choice(EXPERTS, PER_LAYER, replace=False)] = True
    (selected_LE,) = draw_control_sets(shape_LE, use_LE, num=1, seed=int(generator.integers(2**31)))
    return selected_LE, use_LE, effect_LE


def control_sets(
    selected_LE: Bools, use_LE: NDArray[np.int64], num: int, generator: np.random.Generator, *, disjoint: bool
) -> list[Bools]:
    """Those of the program, or with the same counts from the experts that are not selected."""
    if not disjoint:
        return list(draw_control_sets(selected_LE, use_LE, num=num, seed=int(generator.integers(2**31))))
    sets = []
    for _ in range(num):
        drawn_LE = np.zeros_like(selected_LE)
        for layer, strata_E in enumerate(strata_of(use_LE)):
            for stratum in range(4):
                free = np.flatnonzero((strata_E == stratum) & ~selected_LE[layer])
                wanted = int((selected_LE[layer] & (strata_E == stratum)).sum())
                drawn_LE[layer, generator.choice(free, min(wanted, len(free)), replace=False)] = True
        sets.append(drawn_LE)
    return sets


def null_p_values(num_runs: int, *, num_controls: int, disjoint: bool = False, seed: int = 0) -> NDArray[np.float64]:
    """p of each run, where the effect of a set is the sum over its experts."""
    generator = np.random.default_rng([seed, disjoint])
    p_values = []
    for _ in range(num_runs):
        selected_LE, use_LE, effect_LE = random_experiment(generator)
        controls = control_sets(selected_LE, use_LE, num_controls, generator, disjoint=disjoint)
        p_values.append(rank_p(float(effect_LE[selected_LE].sum()), [float(effect_LE[one].sum()) for one in controls]))
    return np.array(p_values)


def null_verdicts(num_runs: int, *, num_controls: int, seed: int = 0) -> Counter[str]:
    """Verdicts where every harmful item stops, or begins to be refused, with the set's effect as its chance."""
    generator = np.random.default_rng([seed, 2])
    verdicts: Counter[str] = Counter()
    for _ in range(num_runs):
        selected_LE, use_LE, effect_LE = random_experiment(generator)
        sets = control_sets(selected_LE, use_LE, num_controls, generator, disjoint=False)
        evidence = drawn_evidence(selected_LE, sets, use_LE, effect_LE, GOALS, generator)
        verdicts[specificity_verdict(evidence)] += 1
    return verdicts


def drawn_evidence(
    selected_LE: Bools,
    sets: Sequence[Bools],
    use_LE: NDArray[np.int64],
    effect_LE: NDArray[np.float64],
    num_goals: int,
    generator: np.random.Generator,
) -> AblationEvidence:
    """Evidence of drawn goals, which differ in how easily they change, whatever is taken away; effects add up."""
    clusters = [f"goal-{number // ITEMS_OF_GOAL}" for number in range(num_goals * ITEMS_OF_GOAL)]
    ease_C = generator.uniform(0, 1, num_goals)
    chances_X = [min(1.0, effect_LE[one].sum()) for one in (selected_LE, *sets)]
    change_XN = np.array([np.repeat(ease_C < chance, ITEMS_OF_GOAL) for chance in chances_X], dtype=np.float64)
    effects = mean_changes(change_XN)
    effect = effect_estimate(change_XN[0], clusters)
    specific = contrast_of(change_XN[0], change_XN[1:], clusters)
    return AblationEvidence(
        effect=effect,
        repair=effect,
        specific=specific.estimate,
        specific_at_most=specific.at_most,
        p_value=rank_p(effects[0], effects[1:]),
        p_opposite=rank_p(-effects[0], [-effect for effect in effects[1:]]),
        harm_to_benign=None,
        more_degenerate=contrast_of(0 * change_XN[0], 0 * change_XN[1:], clusters).estimate,
        most_shared=most_shared(sets, selected_LE),
        chance_of_same=chance_of_same_set(selected_LE, use_LE),
        largest=1.0,
        margin=MARGIN,
        utility_margin=0.02,
    )


Carrier = Literal["all alike", "one", "the most shared"]


def carrier_verdicts(
    num_runs: int,
    *,
    overlap: float,
    num_goals: int,
    harm: float,
    carrier: Carrier | None,
    num_controls: int = 39,
    seed: int = 0,
) -> tuple[Counter[str], float, float]:
    """Verdicts where the selected experts have all of the effect `harm`, and how often other rules say *not specific*.

    The selected set has the share `overlap` of every stratum, which is the mean overlap of its control sets. `carrier`
    says which of them have it; None: every expert of the model does as much, so that the set does nothing of its own.
    The other rules are the specific effect against the margin, and over the mean overlap in place of the largest share.
    """
    generator = np.random.default_rng([seed, 3, round(100 * overlap), num_goals])
    verdicts: Counter[str] = Counter()
    unscaled = over_mean = 0
    use_LE = np.tile(np.arange(4 * OF_STRATUM), (LAYERS, 1))
    for _ in range(num_runs):
        selected_LE = np.zeros(use_LE.shape, dtype=bool)
        for layer in range(LAYERS):
            for start in range(0, use_LE.shape[1], OF_STRATUM):
                taken = generator.choice(OF_STRATUM, round(overlap * OF_STRATUM), replace=False)
                selected_LE[layer, start + taken] = True
        sets = control_sets(selected_LE, use_LE, num_controls, generator, disjoint=False)
        effect_LE = _effects(selected_LE, sets, harm, carrier, generator)
        evidence = drawn_evidence(selected_LE, sets, use_LE, effect_LE, num_goals, generator)
        verdicts[specificity_verdict(evidence)] += 1
        upper = evidence.specific_at_most
        assert upper is not None
        unscaled += upper <= MARGIN
        over_mean += upper <= (1 - mean_overlap(sets, selected_LE)) * MARGIN
    return verdicts, unscaled / num_runs, over_mean / num_runs


def _effects(
    selected_LE: Bools, sets: Sequence[Bools], harm: float, carrier: Carrier | None, generator: np.random.Generator
) -> NDArray[np.float64]:
    """What each expert does alone [L, E]; the selected ones do `harm` together."""
    effect_LE = np.zeros(selected_LE.shape)
    selected = np.flatnonzero(selected_LE)
    if carrier is None:
        effect_LE[:] = harm / len(selected)
    elif carrier == "all alike":
        effect_LE[selected_LE] = harm / len(selected)
    elif carrier == "one":
        effect_LE.flat[generator.choice(selected)] = harm
    else:
        effect_LE.flat[selected[np.argmax(np.mean(sets, axis=0)[selected_LE])]] = harm
    return effect_LE


def verdicts_where_others_do_something(num_runs: int, *, num_goals: int = 120, seed: int = 0) -> Counter[str]:
    """Verdicts where one of 12 experts carries 50 points, three in its stratum, and every unselected expert 3.

    As many unselected experts have 36 points, so that 14 are the selected ones' own.
    """
    generator = np.random.default_rng([seed, 4])
    use_LE = np.tile(np.arange(16), (4, 1))  # strata of 4
    verdicts: Counter[str] = Counter()
    for _ in range(num_runs):
        selected_LE = np.zeros(use_LE.shape, dtype=bool)
        selected_LE.flat[[0, 1, 2, *range(4, 40, 4)]] = True
        sets = control_sets(selected_LE, use_LE, 39, generator, disjoint=False)
        effect_LE = np.where(selected_LE, 0.0, 0.03)
        effect_LE[0, 0] = 0.5
        evidence = drawn_evidence(selected_LE, sets, use_LE, effect_LE, num_goals, generator)
        verdicts[specificity_verdict(evidence)] += 1
    return verdicts


def print_carriers(num_runs: int) -> None:
    """The table of the second half."""
    print("overlap, goals, carrier: verdict not specific (unscaled, over the mean overlap), specific, inconclusive")
    carriers: tuple[Carrier | None, ...] = ("all alike", "one", "the most shared", None)
    for carrier in carriers:
        for overlap in OVERLAPS:
            for num_goals in NUMS_OF_GOALS:
                harm = MARGIN * 1.001 if carrier else EVERY_EXPERT
                verdicts, unscaled, over_mean = carrier_verdicts(
                    num_runs, overlap=overlap, num_goals=num_goals, harm=harm, carrier=carrier
                )
                shares = [verdicts[name] / num_runs for name in ("not specific", "specific", "inconclusive")]
                print(
                    f"{overlap}, {num_goals}, {carrier or 'no own effect'}: {shares[0]:.2%} ({unscaled:.2%}, "
                    f"{over_mean:.2%}), {shares[1]:.2%}, {shares[2]:.2%}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--carrier-runs", type=int, default=500)
    parser.add_argument("--controls", type=int, nargs="*", default=[19, 39])
    arguments = parser.parse_args()
    for num_controls in arguments.controls:
        bound = 0.05 + 2 * (0.05 * 0.95 / arguments.runs) ** 0.5
        for disjoint in (False, True):
            p_values = null_p_values(arguments.runs, num_controls=num_controls, disjoint=disjoint)
            kind = "without the selected experts" if disjoint else "of all experts of the stratum"
            at_5, at_10 = np.mean(p_values <= 0.05), np.mean(p_values <= 0.1)
            print(f"{num_controls} control sets {kind}: p <= 0.05 in {at_5:.2%}, p <= 0.1 in {at_10:.2%}")
        verdicts = null_verdicts(arguments.runs, num_controls=num_controls)
        shares = ", ".join(f"{name} {count / arguments.runs:.2%}" for name, count in verdicts.most_common())
        print(f"{num_controls} control sets, verdicts: {shares}; specific may be at most {bound:.2%}")
    print_carriers(arguments.carrier_runs)
    print("others do something, too:", dict(verdicts_where_others_do_something(arguments.carrier_runs)))


if __name__ == "__main__":
    main()
