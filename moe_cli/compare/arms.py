"""The arms of a comparison: which runs belong to each, what it is called, and whether runs are really different.

A run that stands in two arms is refused, and so are equal weights within one arm, because the same run twice is not
a second seed. Other overlaps are only named: two evaluations of one model may be compared for their settings, but a
difference between them is not one between models.

Arms are in the order base, `--vs` side, other side, so that the difference of a pair is the later arm minus the
earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, takewhile

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.fairness import DIGEST_LENGTH
from moe_cli.compare.wording import format_percent, join_words
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.records import ComparedArm, EvaluationSummary
from moe_cli.records.comparison import RunColumn

ALIKE = 0.01  # imported columns of one arm that differ in a smaller share of their items are named
Groups = tuple[tuple[str, ...], ...]
NUMBERING = "_-. (0123456789"  # what may stand between the name of an arm and the number of a seed


def refuse_shared_runs(arms: Sequence[Sequence[ComparedRun]]) -> None:
    """Refuse a run that stands in two arms.

    Raises:
        ArtifactError: the same evaluation or imported column stands in both, or a run where arms have several.
    """
    roles = ("run", "evaluation") if any(len(arm) > 1 for arm in arms) else ("evaluation",)
    for left, right in combinations(arms, 2):
        for first in left:
            for second in right:
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
    compared_roles = roles if "evaluation" in first.digests else ("run",)
    return any(role in first.digests and first.digests[role] == second.digests.get(role) for role in compared_roles)


def same_weights(columns: Sequence[RunColumn]) -> Iterator[str]:
    """A sentence for every set of columns that have the same weights fingerprint."""
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
    """Sentences about imported columns that hardly differ within an arm, or are equal in two arms."""
    within = [sentence for arm in arms for pair in combinations(arm, 2) for sentence in _nearly(*pair)]
    between = [
        sentence
        for left, right in combinations(arms, 2)
        for first in left
        for second in right
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
    """How many shared items have different outcomes, and how many are shared; 0, 0 unless both columns are imported."""
    if first.column.imported is None or second.column.imported is None:
        return 0, 0
    a, b = first.items or {}, second.items or {}
    both = a.keys() & b.keys()
    return sum(a[id].outcomes != b[id].outcomes for id in both), len(both)


def group_runs(named: Sequence[str], against: Sequence[str], base: str | None) -> Groups:
    """Arguments grouped into arms: two arms with `--vs`, without it one arm for every argument.

    Raises:
        UsageError: fewer than two arms.
    """
    first: Groups = ((base,),) if base is not None else ()
    if against and not named:
        raise UsageError("nothing stands before --vs", hint="moe compare SEL_1 SEL_2 --vs BASE_1 BASE_2")
    arms = (*first, tuple(against), tuple(named)) if against else (*first, *((word,) for word in named))
    if len(arms) < 2:
        raise UsageError(f"{len(arms)} run to compare", hint="name two or more: moe compare OUT_A OUT_B")
    return arms


def regroup_sources(groups: Groups, sources: Sequence[ComparedRun], base: str | None) -> list[tuple[ComparedRun, ...]]:
    """The sources in the groups of their arguments.

    Raises:
        ArtifactError: `--base` names a training run, or an arm holds the same weights twice, or two arms the same run.
    """
    remaining = iter(sources)
    arms = [tuple(next(remaining) for _ in group) for group in groups]
    if base is not None and not arms[0][0].column.is_untrained:
        raise ArtifactError(f"--base {base} is not the untrained model", hint="name the untrained model with --base")
    for arm in arms:
        _refuse_same_weights(arm)
    refuse_shared_runs(arms)
    return arms


def name_arms(arms: Sequence[Sequence[ComparedRun]]) -> tuple[ComparedArm, ...]:
    """Names of the arms: the name of a single run, or the common prefix of the names of several runs."""
    runs = [tuple(source.column.name for source in arm) for arm in arms]
    names = [_name(of_arm) for of_arm in runs]
    taken = [name for name, of_arm in zip(names, runs, strict=True) if len(of_arm) == 1]
    several = [name for name, of_arm in zip(names, runs, strict=True) if len(of_arm) > 1]
    if "" in several or len(set(several)) < len(several) or set(several) & set(taken):
        names = [name if len(of_arm) == 1 else " + ".join(of_arm) for name, of_arm in zip(names, runs, strict=True)]
    return tuple(ComparedArm(name=name, runs=of_arm) for name, of_arm in zip(names, runs, strict=True))


def _name(runs: Sequence[str]) -> str:
    if len(runs) == 1:
        return runs[0]
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*runs, strict=False))
    return "".join(letters[0] for letters in alike).rstrip(NUMBERING)


def _refuse_same_weights(arm: Sequence[ComparedRun]) -> None:
    seen: dict[str, str] = {}
    for source in arm:
        weights = source.training.trained_fingerprint if source.training else None
        evaluated = source.column.evaluation
        weights = weights or (_answered_by(evaluated) if evaluated else None)
        if len(arm) > 1 and source.column.is_untrained:
            raise ArtifactError(
                f"{source.column.name} was not trained: it has no seeds to compare", hint="name it with --base"
            )
        if weights is not None and weights in seen:
            raise ArtifactError(
                f"{seen[weights]} and {source.column.name} are the same {_what(source)}, so they count as one run",
                hint="train each run of an arm with a seed of its own: moe train --seed N",
            )
        if weights is not None:
            seen[weights] = source.column.name


def _answered_by(evaluation: EvaluationSummary) -> str | None:
    """An identifier of what gave the answers: the fingerprint of the weights, or the digests of the answer files."""
    if evaluation.model is not None:
        return evaluation.model.fingerprint
    return " ".join(sorted(file.sha256 for file in evaluation.answer_files)) or None


def _what(source: ComparedRun) -> str:
    return "answers" if source.column.evaluation and source.column.evaluation.answer_files else "weights"
