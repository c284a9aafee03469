"""How often the intervals of the routing drift hold it, beside percentiles of resamples: docs/method.md.

    python -m tests.studies.drift_intervals EVALUATION ...

Draws texts of evaluations, whose JS over all texts is then the true one, and of simulated models: every text has
shares of its own around those of each model, or favours the same experts in both, with drift and without.

Letters of shapes: N texts, E experts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from moe_cli.artifacts import layout
from moe_cli.codec import decode_lines
from moe_cli.records import DriftItem
from moe_cli.stats.clusters import cluster_draws, jackknife_estimate
from moe_cli.views.text import markdown_table

Counts = NDArray[np.float64]  # [N, 2, L, E]
SHARES_2E = np.array([[0.3, 0.25, 0.2, 0.1, 0.1, 0.05], [0.22, 0.2, 0.2, 0.2, 0.13, 0.05]])
TEXTS = (5, 10, 20, 40, 100, 200)
DRAWS, RESAMPLES, CHOICES, MANY = 300, 300, 30, 20_000


def js_of(sums_X2LE: Counts) -> NDArray[np.float64]:
    """Mean over layers [X]."""
    base_XLE, tuned_XLE = sums_X2LE[:, 0], sums_X2LE[:, 1]
    js: NDArray[np.float64] = (jensenshannon(base_XLE, tuned_XLE, axis=-1) ** 2).mean(-1)
    return js


def simulated(shares_2E: Counts, likeness: float | None, generator: np.random.Generator, num: int) -> Counts:
    """Counts of `num` texts, around the shares by Dirichlet's distribution, or with favourites of both models."""
    if likeness is not None:
        rows = [
            [generator.multinomial(CHOICES, generator.dirichlet(likeness * e)) for e in shares_2E] for _ in range(num)
        ]
        return np.array(rows, dtype=np.float64)[:, :, None]
    tilted_N2E = shares_2E * generator.gamma(5, 1 / 5, (num, 1, shares_2E.shape[1]))
    return generator.multinomial(CHOICES, tilted_N2E / tilted_N2E.sum(-1, keepdims=True)).astype(np.float64)[:, :, None]


def row(name: str, draw: Callable[[int], Counts], true: float, num: int, generator: np.random.Generator) -> list[str]:
    """One row of the table."""
    plain, own, held, held_by_percentiles = [], [], 0, 0
    for _ in range(DRAWS):
        counts = draw(num)
        total = counts.sum(0, keepdims=True)
        found = jackknife_estimate(js_of(total)[0], js_of(total - counts), most=np.log(2))
        sums = np.tensordot(cluster_draws(num, RESAMPLES, generator), counts, 1)
        low, high = np.quantile(js_of(sums), [0.025, 0.975])
        held_by_percentiles += low <= true <= high
        held += (found.lower or 0.0) <= true <= (found.upper or 0.0)
        plain.append(js_of(total)[0])
        own.append(found.value)
    values = (f"{1e3 * number:.3f}" for number in (true, np.mean(plain), np.mean(own)))
    return [name, str(num), *values, f"{held_by_percentiles / DRAWS:.3f}", f"{held / DRAWS:.3f}"]


def main() -> None:
    """Print the table."""
    generator = np.random.default_rng(0)
    sources: dict[str, tuple[Callable[[int], Counts], float]] = {}
    for directory in sys.argv[1:]:
        items = list(decode_lines(DriftItem, Path(directory) / layout.DRIFT))
        of_all = np.array([[item.experts_base, item.experts_tuned] for item in items], dtype=np.float64)
        true = float(js_of(of_all.sum(0, keepdims=True))[0])
        sources[directory] = (lambda num, counts=of_all: counts[generator.integers(0, len(counts), num)]), true
    for name, shares_2E in (("drift", SHARES_2E), ("none", SHARES_2E[:1].repeat(2, 0))):
        for likeness in (10.0, 40.0, None):

            def draw(num: int, shares_2E: Counts = shares_2E, likeness: float | None = likeness) -> Counts:
                return simulated(shares_2E, likeness, generator, num)

            true = (
                float(js_of(draw(MANY).sum(0, keepdims=True))[0])
                if likeness is None
                else float(jensenshannon(*shares_2E) ** 2)
            )
            sources[f"{name}, {'favourites' if likeness is None else f'likeness {likeness:g}'}"] = draw, true
    head = ("texts of", "texts", "JS, 1e-3", "plain", "jackknife", "held by percentiles", "by the jackknife")
    print(
        markdown_table(head, (row(name, *source, num, generator) for name, source in sources.items() for num in TEXTS))
    )


if __name__ == "__main__":
    main()
