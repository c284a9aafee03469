"""How often the interval of a graded difference covers the truth, and how often sign flips reject a true null.

    python -m tests.studies.graded

Scores are beta (spread over 0 to 1), near (both runs within 0.03 of the item's score), jumps (equal but for one in 100
that becomes 1) and split (near 0 or 1). Items of one cluster share their difficulty and half of their difference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moe_cli.stats.clusters import item_moments
from moe_cli.stats.intervals import cluster_interval
from moe_cli.stats.significance import LEVEL, sign_flip_p

DRAWS = 1000
SHAPES = ((10, 1), (30, 1), (33, 3), (100, 1))  # clusters, items of each
KINDS = ("beta", "near", "jumps", "split")
SHIFTS = (0.0, 0.1)  # by how much b scores higher, before scores are cut off at 1

Scores = NDArray[np.float64]


def scores(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Scores:
    """The scores of one run: clusters by items. Difficulties are drawn anew for each run but for `near`."""
    if kind == "beta":
        return rng.beta(1.5, 1.5, shape)
    if kind == "split":
        return rng.beta(0.15, 0.15, shape)
    return np.where(rng.random(shape) < 0.01, 1.0, 0.3)


def pair(kind: str, shape: tuple[int, int], shift: float, rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Scores of the runs a and b."""
    if kind == "near":
        item = rng.beta(2, 2, shape)
        a, b = (item + rng.normal(0, 0.03, shape) for _ in "ab")
    else:
        a, b = scores(kind, shape, rng), scores(kind, shape, rng)
    together = rng.normal(0, 0.05, (shape[0], 1)) if shape[1] > 1 else 0.0
    return np.clip(a, 0, 1), np.clip(b + shift + together, 0, 1)


def truth(kind: str, shape: tuple[int, int], shift: float) -> float:
    """The difference that many draws have on average."""
    a, b = pair(kind, (200_000, shape[1]), shift, np.random.default_rng(1))
    return float((b - a).mean())


def main() -> None:
    """Print coverage, share of rejections where the truth is 0, and the mean width."""
    print(f"{'scores':8} {'clusters':>8} {'items':>6} {'truth':>7} {'covered':>8} {'rejected':>8} {'width':>6}")
    for kind in KINDS:
        for shape in SHAPES:
            for shift in SHIFTS:
                rng, true = np.random.default_rng(0), truth(kind, shape, shift)
                covered, rejected, width = 0, 0, 0.0
                for _ in range(DRAWS):
                    a, b = pair(kind, shape, shift, rng)
                    sizes_C = np.full(shape[0], shape[1])
                    found = cluster_interval((b - a).sum(1), sizes_C, items=item_moments(b - a))
                    covered += found.lower <= true <= found.upper
                    rejected += sign_flip_p((b - a).sum(1)) < LEVEL if shift == 0 else 0
                    width += found.upper - found.lower
                of_null = f"{rejected / DRAWS:8.3f}" if shift == 0 else f"{'-':>8}"
                print(
                    f"{kind:8} {shape[0]:8} {shape[0] * shape[1]:6} {true:+7.3f} {covered / DRAWS:8.3f} {of_null}"
                    f" {width / DRAWS:6.3f}"
                )


if __name__ == "__main__":
    main()
