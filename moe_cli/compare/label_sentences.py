"""What the conclusion says of people's labels: how many, what the judge does wrong, and how far people agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.compare.wording import format_points, join_words
from moe_cli.records import Agreement, Estimate
from moe_cli.records.comparison import PairComparison, PairedDifference
from moe_cli.records.labelling import LabelCorrection


def describe_labels(pairs: Sequence[PairComparison], labellers: Sequence[Agreement]) -> Iterator[str]:
    """Of every primary difference that labels correct, then of the labellers."""
    corrected = [(pair, found) for pair in pairs for found in pair.differences if found.primary and found.correction]
    for pair, found in corrected:
        yield f"{_labelled(pair, found)}: {correction_text(found, pair)}."
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


def _labelled(pair: PairComparison, found: PairedDifference) -> str:
    num, drawn = (found.correction.n, found.correction.drawn) if found.correction else (0, 0)
    text = f"People labelled both answers to {num} of {found.n} items of {found.metric} of {pair.b} and {pair.a}"
    left = drawn - num
    return f"{text}, and left {left} of the drawn ones out, which are taken to be like the others" if left else text


def correction_text(found: PairedDifference, pair: PairComparison) -> str:
    """What the judge alone says, its errors in each arm, and Rogan and Gladen's correction."""
    labels = found.correction
    if labels is None:
        raise ValueError(f"{found.metric} is not corrected")
    return "; ".join([_judge(labels), *_errors(labels, pair), _rogan_gladen(labels.rogan_gladen)])


def _judge(labels: LabelCorrection) -> str:
    judge = labels.judge
    return f"the judge alone says {_points(judge.difference, judge.lower, judge.upper)}"


def _errors(labels: LabelCorrection, pair: PairComparison) -> Iterator[str]:
    """Sensitivity and specificity, a and then b."""
    for name, shares in (("sensitivity", labels.sensitivity), ("specificity", labels.specificity)):
        known = [
            f"{share:.2f} in {arm}" for share, arm in zip(shares, (pair.a, pair.b), strict=True) if share is not None
        ]
        if known:
            yield f"its {name} is {join_words(known)}"


def _rogan_gladen(found: Estimate | None) -> str:
    if found is None or found.lower is None or found.upper is None:
        return "Rogan and Gladen's correction cannot be made"
    return (
        "Rogan and Gladen's correction, which needs equal errors in both arms, gives"
        f" {_points(found.value, found.lower, found.upper)}"
    )


def _points(value: float, lower: float, upper: float) -> str:
    return f"{100 * value:+.1f} points [{format_points(lower)}, {format_points(upper)}]"
