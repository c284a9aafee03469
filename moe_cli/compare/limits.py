"""What a comparison cannot show, whatever its numbers: the last sentences of the conclusion.

Comes in: columns and arms. Goes out: sentences. Always holds: every smoke-test judge, every arm with one seed, and
whatever was made elsewhere, not answered, or imported twice in one arm is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.compare.fairness import IMPORTED, UNTRAINED
from moe_cli.compare.wording import listed, percent
from moe_cli.judges.judge import accuracy_text
from moe_cli.records.comparison import ENOUGH_RUNS, ComparedArm, RunColumn
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.judging import QUESTIONS, JudgeIdentity


def limits(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> Iterator[str]:
    """Sentences about judges, seeds, answers of files and imported outcomes."""
    yield from _judges(columns)
    yield from _seeds(columns, arms)
    yield from _of_files(columns)
    yield from _served(columns)
    yield from _imported(columns)
    yield from _imported_twice(columns, arms)


def _judges(columns: Sequence[RunColumn]) -> Iterator[str]:
    evaluations = [column.evaluation for column in columns if column.evaluation]
    deciding = {(judge, question) for e in evaluations for question in QUESTIONS if (judge := e.judge_of(question))}
    for judge in sorted({judge for judge, _ in deciding if judge.smoke_test}, key=lambda judge: judge.name):
        accuracy = f", {known}" if (known := accuracy_text(judge)) else ""
        decides = listed([question for question in QUESTIONS if (judge, question) in deciding])
        runs = [column.name for column in columns if column.evaluation and _decides(judge, column.evaluation)]
        where = f" of {listed(runs)}" if len(runs) < len(evaluations) else ""
        yield (
            f"The judge {judge.name!r}, which decides {decides}{where}, is a smoke test{accuracy}: judge again with"
            " a better one before relying on it."
        )


def _decides(judge: JudgeIdentity, evaluation: EvaluationSummary) -> bool:
    return any(evaluation.judge_of(question) == judge for question in QUESTIONS)


def _seeds(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> Iterator[str]:
    modes = {column.name: column.training_mode for column in columns}
    trained = [arm for arm in arms if modes[arm.runs[0]] not in (UNTRAINED, IMPORTED)]
    several = [arm for arm in trained if len(arm.runs) > 1]
    single = [arm.name for arm in trained if len(arm.runs) == 1]
    if several:
        counts = listed([f"{len(arm.runs)} runs of {arm.name}" for arm in several])
        yield f"The intervals cover the change from training seed to training seed, as far as {counts} show it."
        yield from _few_seeds(several)
    if single and several:
        yield f"{listed(single)} has one training seed: it is taken to vary from seed to seed as much as the other arm."
    elif single:
        yield "One training seed per arm: another seed can give another result, and the intervals do not cover that."


def _few_seeds(several: Sequence[ComparedArm]) -> Iterator[str]:
    """What two or three seeds cannot show, however small a p of theirs is."""
    few = [f"{len(arm.runs)} seeds of {arm.name}" for arm in several if len(arm.runs) < ENOUGH_RUNS]
    if few:
        yield (
            f"With {listed(few)} a p below that of exchanging runs between the arms (1/3 with two each, 1/10 with"
            " three) rests on the assumption that seeds are normally distributed. An arm of which a seed now and then"
            " fails breaks it: about one comparison in seven would then claim a difference where there is none."
        )


def _of_files(columns: Sequence[RunColumn]) -> Iterator[str]:
    names = [column.name for column in columns if column.evaluation and column.evaluation.answer_files]
    if names:
        yield (
            f"The answers of {listed(names)} were read from files: which weights gave them, and with what settings, is"
            " not known here, so that a difference may come from those."
        )


def _served(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        server = column.evaluation.server if column.evaluation else None
        if server is not None:
            yield (
                f"The answers of {column.name} come from a server, which calls its model {server.model!r}: that it"
                f" serves the weights of {column.name} is not checked, and drift is not measured."
            )


def _imported(columns: Sequence[RunColumn]) -> Iterator[str]:
    imported = [(column.name, column.imported) for column in columns if column.imported]
    if imported:
        yield "These outcomes were made elsewhere: how, and whether the runs are comparable, is not known here."
    graded = [name for name, found in imported if found.graded]
    if graded:
        yield f"The outcomes of {listed(graded)} are fractions: a rate is their mean, no share of the items."
    for name, found in imported:
        if found.unanswered and found.rate_answered is not None:
            counted = "is wrong in the rates above" if found.metric == "accuracy" else "is left out of the rates above"
            yield (
                f"{name} left {found.unanswered} of {found.n} items unanswered, which {counted}: of the answered items"
                f" alone it is {percent(found.rate_answered)}, and with all unanswered ones counted either way"
                f" {percent(found.lowest)} to {percent(found.highest)}."
            )


def _imported_twice(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> Iterator[str]:
    found = {column.name: column.imported for column in columns if column.imported}
    for arm in arms:
        alike: dict[str, list[str]] = {}
        for name in arm.runs:
            if name in found:
                alike.setdefault(found[name].sha256, []).append(name)
        for names in alike.values():
            if len(names) > 1:
                yield (
                    f"Warning: {listed(names)} have the same outcome for every item. If they are one run, they are no"
                    f" second seed, and the intervals and p-values of {arm.name} are surer than the data."
                )
