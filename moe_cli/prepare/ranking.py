"""The largest of many numbers, with exact ties.

Comes in: numbers, and how many are wanted. Goes out: a mask. Always holds: ties go to the lower place; an undefined
number is never taken. Pure.

Letters of shapes: X places; anything may stand before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def largest(values_X: Floats, most: int, above: float = -np.inf) -> Bools:
    """The at most `most` largest values above `above`, in every row [..., X] for itself."""
    allowed_X: Bools = values_X > above  # NaN is not
    if most == 0:
        return np.zeros_like(allowed_X)
    crowded = np.count_nonzero(allowed_X, axis=-1) > most
    if not crowded.any():
        return allowed_X
    rows_RX = np.where(allowed_X[crowded], values_X[crowded], -np.inf)
    size = rows_RX.shape[-1]
    last_R1 = np.partition(rows_RX, size - most, axis=-1)[:, size - most, None]
    sure_RX, tied_RX = rows_RX > last_R1, rows_RX == last_R1
    room_R1 = most - np.count_nonzero(sure_RX, axis=-1)[:, None]
    taken_X = allowed_X.copy()
    taken_X[crowded] = sure_RX | (tied_RX & (np.cumsum(tied_RX, axis=-1) <= room_R1))
    return taken_X


def indices_of(mask_X: Bools) -> tuple[int, ...]:
    """The places of a flat mask, ascending."""
    return tuple(np.flatnonzero(mask_X).tolist())


def mask_of(indices: tuple[int, ...], size: int) -> Bools:
    """The flat mask [X] of some places."""
    mask_X = np.zeros(size, dtype=np.bool_)
    mask_X[list(indices)] = True
    return mask_X
