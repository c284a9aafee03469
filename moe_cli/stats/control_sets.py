"""Control sets: experts drawn at random that are used as much as the selected ones, layer by layer.

The experts of a layer fall into four strata by use. A control set has from every stratum of every layer as many experts
as the selected set has there, drawn from all of its experts, those of the selected set included: then, if the
selection says nothing, the selected set is one more such draw, and its rank among them is uniform. Sets that avoid the
selected experts are not exchangeable with it where a few experts matter much.

Letters: L expert layers, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import comb, prod

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
NUM_STRATA = 4


def strata_of(use_LE: NDArray[np.generic]) -> NDArray[np.int64]:
    """int64 [L, E]: the stratum of every expert in its layer, 0 for the least used; ties go by index."""
    strata_LE = np.empty(use_LE.shape, dtype=np.int64)
    for layer, use_E in enumerate(use_LE):
        order = np.argsort(use_E, kind="stable")
        for stratum, experts in enumerate(np.array_split(order, NUM_STRATA)):
            strata_LE[layer, experts] = stratum
    return strata_LE


def draw_control_sets(selected_LE: Bools, use_LE: NDArray[np.generic], *, num: int, seed: int) -> tuple[Bools, ...]:
    """`num` sets, each bool [L, E]; the r-th depends on the seed, on r, and on how many experts each stratum gives."""
    strata_LE = strata_of(use_LE)
    return tuple(_draw(selected_LE, strata_LE, _generator(seed, number)) for number in range(1, num + 1))


def _generator(seed: int, number: int) -> np.random.Generator:
    digest = sha256(f"moe ablate control {seed} {number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def _draw(selected_LE: Bools, strata_LE: NDArray[np.int64], generator: np.random.Generator) -> Bools:
    drawn_LE = np.zeros_like(selected_LE)
    for layer, strata_E in enumerate(strata_LE):
        for stratum in range(NUM_STRATA):
            members = np.flatnonzero(strata_E == stratum)
            num = int(selected_LE[layer, members].sum())
            drawn_LE[layer, generator.choice(members, num, replace=False)] = True
    return drawn_LE


def chance_of_same_set(selected_LE: Bools, use_LE: NDArray[np.generic]) -> float:
    """The chance that a control set is the selected set itself, below which no rank among many of them can be."""
    strata_LE = strata_of(use_LE)
    return 1 / prod(
        comb(int((strata_E == stratum).sum()), int(selected_E[strata_E == stratum].sum()))
        for strata_E, selected_E in zip(strata_LE, selected_LE, strict=True)
        for stratum in range(NUM_STRATA)
    )


def most_shared(sets: Sequence[Bools], selected_LE: Bools) -> float:
    """The share of the sets that hold one and the same selected expert, of the one that most of them hold."""
    return float(np.mean(sets, axis=0)[selected_LE].max())


def coverage_of(set_LE: Bools, use_LE: NDArray[np.generic]) -> float | None:
    """Share of all choices that the experts of a set had; None for an empty set, or where nothing was counted."""
    total = float(use_LE.sum())
    return float(use_LE[set_LE].sum()) / total if set_LE.any() and total else None


def overlap_with_selected(set_LE: Bools, selected_LE: Bools) -> float | None:
    """Share of the selected experts that a set holds, too; None where nothing is selected or the set is empty."""
    return float((set_LE & selected_LE).sum() / selected_LE.sum()) if set_LE.any() and selected_LE.any() else None


def mean_overlap(sets: Sequence[Bools], selected_LE: Bools) -> float:
    """The mean overlap of control sets with the selected set."""
    return float(np.mean([overlap_with_selected(one, selected_LE) or 0.0 for one in sets]))
