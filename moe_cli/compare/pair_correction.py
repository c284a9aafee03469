"""Holm's correction over all that a comparison claims about trained arms, so that many pairs do not make a finding.

Three arms are three pairs and nine primary differences: corrected within each pair alone, the chance of a false
claim somewhere would be three times the level. Pairs with the untrained model are corrected within themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from moe_cli.records.comparison import PairComparison, PairedDifference
from moe_cli.stats.labelled import PairLabels
from moe_cli.stats.paired import ArmItems, compare_pair, paired_verdict
from moe_cli.stats.significance import holm


def correct_pairs(
    pairs: Sequence[tuple[ArmItems, ArmItems]],
    untrained: Sequence[str],
    *,
    margin: float,
    labels: Mapping[tuple[str, str], PairLabels] | None = None,
) -> tuple[PairComparison, ...]:
    """Compare each pair, with the primary differences of trained arms corrected as one family.

    `untrained` are names of arms. `labels` are people's labels by the names of the two arms.
    """
    trained = [a.name not in untrained and b.name not in untrained for a, b in pairs]
    compared = [
        compare_pair(
            a,
            b,
            margin=margin,
            num_pairs=sum(trained) if together else 1,
            labels=(labels or {}).get((a.name, b.name)),
        )
        for (a, b), together in zip(pairs, trained, strict=True)
    ]
    of_trained = [pair for pair, together in zip(compared, trained, strict=True) if together]
    adjusted = iter(holm([difference.p_value for pair in of_trained for difference in _primary(pair)]))
    return tuple(
        _corrected(pair, adjusted, margin) if together else pair
        for pair, together in zip(compared, trained, strict=True)
    )


def _primary(pair: PairComparison) -> list[PairedDifference]:
    return [difference for difference in pair.differences if difference.primary]


def _corrected(pair: PairComparison, adjusted: Iterator[float], margin: float) -> PairComparison:
    differences = [
        replace(difference, p_adjusted=next(adjusted)) if difference.primary else difference
        for difference in pair.differences
    ]
    return replace(
        pair,
        differences=tuple(
            replace(difference, verdict=paired_verdict(difference, margin)) for difference in differences
        ),
    )
