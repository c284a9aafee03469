"""The largest of many numbers, with exact ties, and ESFT's choice within each layer.

Ties go to the lower index; an undefined number is never taken. ESFT's scores are normalised over the experts of a
layer, never over layers, and the expert that crosses the share is included. Pure.

Source: ESFT (arXiv 2407.01906), token score and gate score.
Letters of shapes: L expert layers, E experts, X values; any axes may stand before X.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDING = 1e-12  # sums that only rounding keeps from the share


def largest(values_X: Floats, most: int, above: float = -np.inf) -> Bools:
    """Mask of the at most `most` largest values above `above`, in every row [..., X] separately."""
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


def flat_mask(indices: tuple[int, ...], size: int) -> Bools:
    """The flat mask [X] of some indices."""
    mask_X = np.zeros(size, dtype=np.bool_)
    mask_X[list(indices)] = True
    return mask_X


def shares_in_layer(amounts_LE: Floats) -> Floats:
    """Each expert's share of its layer: of its routed tokens (token score) or of its router weights (gate score).

    NaN where a layer has nothing.
    """
    whole_L1 = amounts_LE.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares_LE: Floats = amounts_LE / whole_L1
    return np.where(whole_L1 > 0, shares_LE, np.nan)


def top_p(scores_LE: Floats, share: float) -> Bools:
    """Mask of the largest scores of each layer that together reach `share`; undefined ones are never taken."""
    order_LE = np.argsort(-np.nan_to_num(scores_LE, nan=-np.inf), axis=1, kind="stable")
    sorted_LE = np.nan_to_num(np.take_along_axis(scores_LE, order_LE, axis=1))
    before_LE = np.cumsum(sorted_LE, axis=1) - sorted_LE
    taken_LE = np.zeros(scores_LE.shape, dtype=np.bool_)
    np.put_along_axis(taken_LE, order_LE, before_LE < share - ROUNDING, axis=1)
    return taken_LE & (scores_LE > 0)
