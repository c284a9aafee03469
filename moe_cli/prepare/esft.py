"""ESFT's scores and its top-p choice within each layer.

Comes in: counts or weights of every layer's experts. Goes out: scores that sum to 1 in a layer, and a mask. Always
holds: scores are normalised over the experts of a layer, never over layers; the expert that crosses the share is
included; ties go to the lower index. Pure.

Source: ESFT (arXiv 2407.01906), token score and gate score.
Letters of shapes: L expert layers, E experts.
"""

from __future__ import annotations

import numpy as np

from moe_cli.prepare.ranking import Bools, Floats

ROUNDING = 1e-12  # sums that only rounding keeps from the share


def shares_in_layer(amounts_LE: Floats) -> Floats:
    """Each expert's part of its layer: of its routed tokens (token score) or of its router weights (gate score).

    NaN where a layer has nothing.
    """
    whole_L1 = amounts_LE.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares_LE: Floats = amounts_LE / whole_L1
    return np.where(whole_L1 > 0, shares_LE, np.nan)


def top_p(scores_LE: Floats, share: float) -> Bools:
    """Largest scores first, until those of a layer add up to `share`; undefined ones never."""
    order_LE = np.argsort(-np.nan_to_num(scores_LE, nan=-np.inf), axis=1, kind="stable")
    sorted_LE = np.nan_to_num(np.take_along_axis(scores_LE, order_LE, axis=1))
    before_LE = np.cumsum(sorted_LE, axis=1) - sorted_LE
    taken_LE = np.zeros(scores_LE.shape, dtype=np.bool_)
    np.put_along_axis(taken_LE, order_LE, before_LE < share - ROUNDING, axis=1)
    return taken_LE & (scores_LE > 0)
