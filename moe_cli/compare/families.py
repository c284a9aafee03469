"""Holm's correction over all that a comparison claims of trained arms, so that many pairs do not make a finding.

Three arms are three pairs and nine primary differences: corrected within each pair alone, the chance of a false claim
somewhere would be three times the level. Pairs with the untrained model are corrected within themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from moe_cli.compare.paired import verdict_of
from moe_cli.compare.significance import holm
from moe_cli.records.comparison import PairComparison, PairedDifference


def corrected_over_pairs(
    pairs: Sequence[PairComparison], untrained: Sequence[str], *, margin: float
) -> tuple[PairComparison, ...]:
    """The pairs with the primary differences of two trained arms in one family; `untrained` are names of arms."""
    of_trained = [pair for pair in pairs if pair.a not in untrained and pair.b not in untrained]
    adjusted = iter(holm([found.p_value for pair in of_trained for found in _primary(pair)]))
    return tuple(_corrected(pair, adjusted, margin) if pair in of_trained else pair for pair in pairs)


def _primary(pair: PairComparison) -> list[PairedDifference]:
    return [found for found in pair.differences if found.primary]


def _corrected(pair: PairComparison, adjusted: Iterator[float], margin: float) -> PairComparison:
    found = [replace(one, p_adjusted=next(adjusted)) if one.primary else one for one in pair.differences]
    return replace(pair, differences=tuple(replace(one, verdict=verdict_of(one, margin)) for one in found))
