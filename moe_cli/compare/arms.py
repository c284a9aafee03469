"""Which runs are compared: the words that name them, as arms.

Comes in: the words before and after `--vs`, and the untrained base. Goes out: groups of words in the order base,
`--vs` side, other side, so that the difference of a pair is the later one minus the earlier one; their names. Always
holds: the runs of one arm are different weights, because the same run twice is no second seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from moe_cli.compare.fairness import UNTRAINED
from moe_cli.compare.same_model import refuse_shared_runs
from moe_cli.compare.sources import ComparedRun
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.records import ComparedArm, EvaluationSummary

Groups = tuple[tuple[str, ...], ...]
NUMBERING = "_-. (0123456789"  # what may stand between the name of an arm and the number of a seed


def group_runs(words: Sequence[str], against: Sequence[str], base: str | None) -> Groups:
    """The words of every arm: with `--vs` two arms, without it one for every word.

    Raises:
        UsageError: fewer than two arms.
    """
    first: Groups = ((base,),) if base is not None else ()
    if against and not words:
        raise UsageError("nothing stands before --vs", hint="moe compare SEL_1 SEL_2 --vs BASE_1 BASE_2")
    arms = (*first, tuple(against), tuple(words)) if against else (*first, *((word,) for word in words))
    if len(arms) < 2:
        raise UsageError(f"{len(arms)} run to compare", hint="name two or more: moe compare OUT_A OUT_B")
    return arms


def regroup_sources(groups: Groups, sources: Sequence[ComparedRun], base: str | None) -> list[tuple[ComparedRun, ...]]:
    """The sources as the groups of their words.

    Raises:
        ArtifactError: `--base` names a training run, or an arm holds the same weights twice, or two arms the same run.
    """
    rest = iter(sources)
    arms = [tuple(next(rest) for _ in group) for group in groups]
    if base is not None and arms[0][0].column.training_mode != UNTRAINED:
        raise ArtifactError(f"--base {base} is not the untrained model", hint="name the untrained model with --base")
    for arm in arms:
        _refuse_same_weights(arm)
    refuse_shared_runs(arms)
    return arms


def name_arms(arms: Sequence[Sequence[ComparedRun]]) -> tuple[ComparedArm, ...]:
    """A name for every arm: that of its run, or what the names of its runs begin with."""
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
        if len(arm) > 1 and source.column.training_mode == UNTRAINED:
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
    """What tells the answers of one run from those of another: its weights, or the files that they come from."""
    if evaluation.model is not None:
        return evaluation.model.fingerprint
    return " ".join(sorted(file.sha256 for file in evaluation.answer_files)) or None


def _what(source: ComparedRun) -> str:
    return "answers" if source.column.evaluation and source.column.evaluation.answer_files else "weights"
