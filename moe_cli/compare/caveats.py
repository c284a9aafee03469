"""What a comparison cannot show, whatever its numbers: the last sentences of the conclusion.

Every smoke-test judge and every arm with one seed is named, and so is whatever was made elsewhere, left unanswered,
or imported twice in one arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.compare.wording import format_percent, format_points, join_words
from moe_cli.config.sections import MATCHED
from moe_cli.judges.judge import accuracy_text
from moe_cli.records import Agreement, Estimate
from moe_cli.records.comparison import (
    ENOUGH_RUNS,
    ComparedArm,
    PairComparison,
    PairedDifference,
    RunColumn,
    columns_of_arms,
)
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.judging import QUESTIONS, JudgeIdentity, LabelCorrection, Question
from moe_cli.records.training import MODES_OF_EXPERTS
from moe_cli.stats.metrics import ACCURACY, QUESTION_OF


def missing_controls(columns: Sequence[RunColumn]) -> Iterator[str]:
    """What a repair of selected experts does not show without control selections of as many experts, or with one."""
    chosen = [
        column for column in columns if column.training_mode in MODES_OF_EXPERTS and any(column.experts_per_layer or ())
    ]
    controls = [column for column in chosen if column.selection in MATCHED]
    if chosen and not 0 < len(controls) < len(chosen):
        yield (
            "No arm trains as many other experts (--method random) beside the selected ones: whether it matters which"
            " experts are trained is not known."
        )
    elif len(controls) == 1 and controls[0].selection == "random":
        yield (
            f"{controls[0].name} trains one random set of experts: another set can give another result, and the"
            " intervals do not cover that (moe sweep --random-draws 19)."
        )


def describe_labels(pairs: Sequence[PairComparison], labellers: Sequence[Agreement]) -> Iterator[str]:
    """Sentences about every primary difference that labels correct, then about the agreement of the labellers."""
    corrected = [
        (pair, difference)
        for pair in pairs
        for difference in pair.differences
        if difference.primary and difference.correction
    ]
    for pair, difference in corrected:
        yield f"{_labelled(pair, difference)}: {correction_text(difference, pair)}."
    if corrected and not labellers:
        yield "One person labelled: how far another one would agree is not known (--labels takes several files)."
    for agreement in labellers:
        kappa = (
            "which has no kappa, as both say one thing" if agreement.kappa is None else f"kappa {agreement.kappa:.2f}"
        )
        yield (
            f"The labellers of {agreement.a} and {agreement.b} agree on {agreement.question} in"
            f" {agreement.both_yes + agreement.both_no} of {agreement.n} answers ({kappa})."
        )


def _labelled(pair: PairComparison, difference: PairedDifference) -> str:
    num, drawn = (difference.correction.n, difference.correction.drawn) if difference.correction else (0, 0)
    text = (
        f"People labelled both answers to {num} of {difference.n} items of {difference.metric} of {pair.b} and {pair.a}"
    )
    num_unlabelled = drawn - num
    return (
        f"{text}, and left {num_unlabelled} of the drawn ones out, which are taken to be like the others"
        if num_unlabelled
        else text
    )


def correction_text(difference: PairedDifference, pair: PairComparison) -> str:
    """What the judge alone says, its errors in each arm, and Rogan and Gladen's correction."""
    labels = difference.correction
    if labels is None:
        raise ValueError(f"{difference.metric} is not corrected")
    return "; ".join([_judge(labels), *_errors(labels, pair), _rogan_gladen(labels.rogan_gladen)])


def _judge(labels: LabelCorrection) -> str:
    judge = labels.judge
    return f"the judge alone says {_points(judge.difference, judge.lower, judge.upper)}"


def _errors(labels: LabelCorrection, pair: PairComparison) -> Iterator[str]:
    """Sensitivity and specificity of the judge, each for arm a and then arm b."""
    for name, shares in (("sensitivity", labels.sensitivity), ("specificity", labels.specificity)):
        texts = [
            f"{share:.2f} in {arm}" for share, arm in zip(shares, (pair.a, pair.b), strict=True) if share is not None
        ]
        if texts:
            yield f"its {name} is {join_words(texts)}"


def _rogan_gladen(estimate: Estimate | None) -> str:
    if estimate is None or estimate.lower is None or estimate.upper is None:
        return "Rogan and Gladen's correction cannot be made"
    return (
        "Rogan and Gladen's correction, which needs equal errors in both arms, gives"
        f" {_points(estimate.value, estimate.lower, estimate.upper)}"
    )


def _points(value: float, lower: float, upper: float) -> str:
    return f"{100 * value:+.1f} points [{format_points(lower)}, {format_points(upper)}]"


def state_caveats(
    columns: Sequence[RunColumn],
    arms: Sequence[ComparedArm],
    pairs: Sequence[PairComparison] = (),
    labellers: Sequence[Agreement] = (),
) -> Iterator[str]:
    """Sentences about judges, labels, seeds, answers of files and imported outcomes."""
    yield from _judges(columns, pairs)
    yield from describe_labels(pairs, labellers)
    yield from _seeds(columns, arms)
    yield from _of_files(columns)
    yield from _served(columns)
    yield from _steered(columns)
    yield from _imported(columns)
    yield from _imported_twice(columns, arms)


def _judges(columns: Sequence[RunColumn], pairs: Sequence[PairComparison]) -> Iterator[str]:
    """Sentences about deciding judges that are smoke tests or have a published accuracy."""
    evaluations = [column.evaluation for column in columns if column.evaluation]
    deciding = {(judge, question) for e in evaluations for question in QUESTIONS if (judge := e.judge_of(question))}
    judges = {judge for judge, _ in deciding if judge.smoke_test or judge.published_accuracy}
    for judge in sorted(judges, key=lambda judge: judge.name):
        questions = [question for question in QUESTIONS if (judge, question) in deciding]
        runs = [column.name for column in columns if column.evaluation and _decides(judge, column.evaluation)]
        where = f" of {join_words(runs)}" if len(runs) < len(evaluations) else ""
        traits = [*(["a smoke test"] if judge.smoke_test else []), *filter(None, [accuracy_text(judge)])]
        yield (
            f"The judge {judge.name!r}, which decides {join_words(questions)}{where}, is {', '.join(traits)}"
            f"{_bound(judge, questions, pairs)}."
        )


def _bound(judge: JudgeIdentity, questions: Sequence[Question], pairs: Sequence[PairComparison]) -> str:
    """How far a difference can be off by the judge's errors alone, 2 * error rate, and what to do about it."""
    better = "judge again with a better one, or label answers (moe label)," if judge.smoke_test else "label answers"
    judged = [
        difference
        for pair in pairs
        for difference in pair.differences
        if difference.primary
        and QUESTION_OF.get(difference.metric) in questions
        and difference.verdict != "not comparable"
    ]
    if judged and all(difference.correction for difference in judged):
        return ": people's labels correct what it says"
    advice = f"{better} before relying on it" if judge.smoke_test else f"{better} (moe label) where that matters"
    if judge.published_accuracy is None:
        return f": {advice}"
    worst, best = (2 * (1 - accuracy) for accuracy in judge.published_accuracy)
    span = f"{100 * best:.0f} to {100 * worst:.0f}" if worst - best > 0.005 else f"{100 * worst:.0f}"
    small = dict.fromkeys(difference.metric for difference in judged if _is_open(difference, worst))
    here = f" (here that of {join_words(list(small))})" if small else ""
    return (
        f", so that it can be off by up to {span} points in a difference, and a smaller one{here} is not identified by"
        f" it alone: {advice}"
    )


def _is_open(difference: PairedDifference, bound: float) -> bool:
    return difference.correction is None and abs(difference.difference) < bound


def _decides(judge: JudgeIdentity, evaluation: EvaluationSummary) -> bool:
    return any(evaluation.judge_of(question) == judge for question in QUESTIONS)


def _seeds(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> Iterator[str]:
    of_arms = columns_of_arms(columns, arms)
    trained = [arm for arm, runs in zip(arms, of_arms, strict=True) if runs[0].is_trained_here]
    imported = [arm for arm, runs in zip(arms, of_arms, strict=True) if runs[0].imported and not runs[0].is_untrained]
    yield from _few_seeds([arm for arm in imported if len(arm.runs) > 1], "runs")
    several = [arm for arm in trained if len(arm.runs) > 1]
    single = [arm.name for arm in trained if len(arm.runs) == 1]
    if several:
        counts = join_words([f"{len(arm.runs)} runs of {arm.name}" for arm in several])
        yield f"The intervals cover the change from training seed to training seed, as far as {counts} show it."
        yield from _few_seeds(several, "seeds")
    if single and several:
        arm = join_words(single)
        yield f"{arm} has one training seed: it is taken to vary from seed to seed as much as the other arm."
    elif single:
        yield "One training seed per arm: another seed can give another result, and the intervals do not cover that."


def _few_seeds(several: Sequence[ComparedArm], noun: str) -> Iterator[str]:
    """What two or three seeds cannot show, however small their p-value is; imported ones are called runs."""
    few = [f"{len(arm.runs)} {noun} of {arm.name}" for arm in several if len(arm.runs) < ENOUGH_RUNS]
    if few:
        yield (
            f"With {join_words(few)} a p below that of exchanging runs between the arms (1/3 with two each, 1/10 with"
            f" three) rests on the assumption that {noun} are normally distributed. An arm of which a {noun[:-1]} now"
            " and then fails breaks it: about one comparison in seven would then claim a difference where there is"
            " none."
        )


def _of_files(columns: Sequence[RunColumn]) -> Iterator[str]:
    names = [column.name for column in columns if column.evaluation and column.evaluation.answer_files]
    if names:
        yield (
            f"The answers of {join_words(names)} were read from files: which weights gave them, and with what settings,"
            " is not known here, so that a difference may come from those."
        )


def _served(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        server = column.evaluation.server if column.evaluation else None
        if server is not None:
            yield (
                f"The answers of {column.name} come from a server, which calls its model {server.model!r}: that it"
                f" serves the weights of {column.name} is not checked, and drift is not measured."
            )


def _steered(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        if column.evaluation and column.evaluation.steering:
            yield (
                f"The router of {column.name} was steered while it was measured ({column.evaluation.steering.title}): "
                "a difference may come from that, and not from its weights."
            )


def _imported(columns: Sequence[RunColumn]) -> Iterator[str]:
    imported = [(column.name, column.imported) for column in columns if column.imported]
    if imported:
        yield "These outcomes were made elsewhere: how, and whether the runs are comparable, is not known here."
    graded = [name for name, outcomes in imported if outcomes.graded]
    if graded:
        yield f"The outcomes of {join_words(graded)} are fractions: a rate is their mean, no share of the items."
    for name, outcomes in imported:
        if outcomes.unanswered and outcomes.rate_answered is not None:
            counted = "is wrong in" if outcomes.metric == ACCURACY else "is left out of"
            answered = format_percent(outcomes.rate_answered)
            yield (
                f"{name} left {outcomes.unanswered} of {outcomes.n} items unanswered, which {counted} the rates above: "
                f"of the answered items alone it is {answered}, and with all unanswered ones counted either way "
                f"{format_percent(outcomes.lowest)} to {format_percent(outcomes.highest)}."
            )


def _imported_twice(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> Iterator[str]:
    imported = {column.name: column.imported for column in columns if column.imported}
    for arm in arms:
        alike: dict[str, list[str]] = {}
        for name in arm.runs:
            if name in imported:
                alike.setdefault(imported[name].sha256, []).append(name)
        for names in alike.values():
            if len(names) > 1:
                yield (
                    f"Warning: {join_words(names)} have the same outcome for every item. If they are one run, they are"
                    f" no second seed, and the intervals and p-values of {arm.name} are surer than the data."
                )
