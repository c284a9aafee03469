"""Cohen's kappa: how far two that judge agree beyond chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cohens_kappa(tables_X4: NDArray[np.generic]) -> NDArray[np.float64]:
    """(observed - expected) / (1 - expected) of each table [X, 4]; NaN where both always say the same one thing.

    The cells of a table: both yes, only a, only b, both no. Expected is what two judges with these shares of yes agree
    on by chance (Cohen 1960, Educ. Psychol. Meas. 20:37).
    """
    yes_both, only_a, only_b, no_both = np.asarray(tables_X4, dtype=np.float64).T
    n = yes_both + only_a + only_b + no_both
    # Sums of whole numbers, n * n times the shares: exact, so that 0 is 0.
    chance = (yes_both + only_a) * (yes_both + only_b) + (no_both + only_b) * (no_both + only_a)
    with np.errstate(invalid="ignore"):
        kappa: NDArray[np.float64] = (n * (yes_both + no_both) - chance) / (n * n - chance)
    return kappa
