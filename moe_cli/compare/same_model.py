"""Whether two columns are one and the same thing: weights with one fingerprint, a run in both arms, copied outcomes.

A run in both arms is refused. All else is named: two evaluations of one model may be compared for their settings, but
a difference between them is none between models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from moe_cli.compare.fairness import DIGEST_LENGTH
from moe_cli.compare.sources import ComparedRun
from moe_cli.compare.wording import format_percent, join_words
from moe_cli.errors import ArtifactError
from moe_cli.records.comparison import RunColumn

ALIKE = 0.01  # imported columns of one arm that differ in a smaller share of their items are named


def refuse_shared_runs(arms: Sequence[Sequence[ComparedRun]]) -> None:
    """Refuse a run that stands in two arms.

    Raises:
        ArtifactError: the same evaluation or imported column stands in both, or a run where arms have several.
    """
    roles = ("run", "evaluation") if any(len(arm) > 1 for arm in arms) else ("evaluation",)
    for one, other in combinations(arms, 2):
        for first in one:
            for second in other:
                if _shared(first, second, roles):
                    raise ArtifactError(
                        f"{_place(second)} stands in two arms: a run does not differ from itself",
                        hint="name another run, or two evaluations of it by their directories",
                    )


def _place(source: ComparedRun) -> str:
    return f"{source.column.name} of {source.column.path}" if source.column.imported else source.column.path


def _shared(first: ComparedRun, second: ComparedRun, roles: Sequence[str]) -> bool:
    if first.column.imported is not None or second.column.imported is not None:
        return (first.column.name, first.column.path) == (second.column.name, second.column.path)
    asked = roles if "evaluation" in first.digests else ("run",)
    return any(role in first.digests and first.digests[role] == second.digests.get(role) for role in asked)


def same_weights(columns: Sequence[RunColumn]) -> Iterator[str]:
    """A sentence for all columns of one fingerprint."""
    by_weights: dict[str, list[str]] = {}
    for column in columns:
        model = column.evaluation.model if column.evaluation else None
        if model is not None:
            by_weights.setdefault(model.fingerprint, []).append(column.name)
    for fingerprint, names in by_weights.items():
        if len(names) > 1:
            yield (
                f"{join_words(names)} are the same weights (fingerprint {fingerprint[:DIGEST_LENGTH]}): a difference"
                " between them is of their answers or judges, not of what was trained."
            )


def copied_outcomes(arms: Sequence[Sequence[ComparedRun]]) -> tuple[str, ...]:
    """Sentences about imported columns that hardly differ: those of one arm, and equal ones of two arms."""
    within = [sentence for arm in arms for pair in combinations(arm, 2) for sentence in _nearly(*pair)]
    between = [
        sentence
        for one, other in combinations(arms, 2)
        for first in one
        for second in other
        for sentence in _equal(first, second)
    ]
    return (*within, *between)


def _nearly(first: ComparedRun, second: ComparedRun) -> Iterator[str]:
    differing, num = _differing(first, second)
    if num and 0 < differing < ALIKE * num:
        yield (
            f"Warning: {first.column.name} and {second.column.name} differ in {differing} of {num} items"
            f" ({format_percent(differing / num)}). If they are one run, they are no second seed, and the intervals and"
            " p-values of their arm are surer than the data."
        )


def _equal(first: ComparedRun, second: ComparedRun) -> Iterator[str]:
    differing, num = _differing(first, second)
    if num and not differing:
        yield (
            f"{first.column.name} and {second.column.name} have the same outcome for each of {num} items: they may be"
            " one run."
        )


def _differing(first: ComparedRun, second: ComparedRun) -> tuple[int, int]:
    """How many of the items of two imported columns have another outcome; of none where one is a run of moe."""
    if first.column.imported is None or second.column.imported is None:
        return 0, 0
    a, b = first.items or {}, second.items or {}
    both = a.keys() & b.keys()
    return sum(a[id].outcomes != b[id].outcomes for id in both), len(both)
