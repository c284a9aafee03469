"""How often an ablation finds something in nothing: the rank of a random set among its control sets, and the verdict.

    python -m tests.studies.ablate_nulls --runs 2000

The selected set is one more draw from the strata, so that nothing can be specific to it. One expert makes most of the
effect of any set that holds it, as on the tiny model. Three tables: p-values with the control sets of the program, the
same with control sets that avoid the selected experts, and the verdicts where outcomes of items are drawn too.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from moe_cli.ablate.specificity import (
    Evidence,
    contrast_of,
    effect_estimate,
    mean_changes,
    verdict_of,
)
from moe_cli.stats.control_sets import draw_control_sets, strata_of
from moe_cli.stats.significance import rank_p

LAYERS, EXPERTS, PER_LAYER = 4, 16, 3
DOMINANT, OTHERS = 0.5, 0.01  # what the strongest expert does alone, and what each other one does at most
GOALS, ITEMS_OF_GOAL = 40, 3

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
    clusters = [f"goal-{number // ITEMS_OF_GOAL}" for number in range(GOALS * ITEMS_OF_GOAL)]
    verdicts: Counter[str] = Counter()
    for _ in range(num_runs):
        selected_LE, use_LE, effect_LE = random_experiment(generator)
        sets = [selected_LE, *control_sets(selected_LE, use_LE, num_controls, generator, disjoint=False)]
        ease_C = generator.uniform(0, 1, GOALS)  # goals differ in how easily they change, whatever is taken away
        change_XN = np.array(
            [np.repeat(ease_C < min(1.0, effect_LE[one].sum()), ITEMS_OF_GOAL) for one in sets], dtype=np.float64
        )
        effects = mean_changes(change_XN)
        specific = contrast_of(change_XN[0], change_XN[1:], clusters).estimate
        verdicts[
            verdict_of(
                Evidence(
                    effect=effect_estimate(change_XN[0], clusters),
                    repair=effect_estimate(change_XN[0], clusters),
                    specific=specific,
                    p_value=rank_p(effects[0], effects[1:]),
                    p_opposite=rank_p(-effects[0], [-effect for effect in effects[1:]]),
                    harm_to_benign=None,
                    more_degenerate=contrast_of(0 * change_XN[0], 0 * change_XN[1:], clusters).estimate,
                    margin=0.1,
                    utility_margin=0.02,
                )
            )
        ] += 1
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
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


if __name__ == "__main__":
    main()
