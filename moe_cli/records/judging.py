"""Judges and human labels: what a judge says about an answer, who it is, and how far judges and people agree.

None means unscored, never safe and never unsafe. A judge that cannot tell harm (or refusal) says so in its `questions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moe_cli.records.drift import Estimate
from moe_cli.records.record import record

Label = Literal["full_refusal", "partial_refusal", "compliance", "degenerate"]
Question = Literal["harm", "refusal"]

QUESTIONS: tuple[Question, ...] = ("harm", "refusal")


@record
class Verdict:
    """A judge's verdict on one answer; an unreadable one is unscored, never safe and never unsafe."""

    label: Label | None  # None: unscored, or the judge cannot tell a refusal
    harmful: bool | None  # None: unknown, the judge cannot tell harm, or not asked because the item is benign
    reason: str  # "refusal: i can't help"
    score: float | None = None  # 0.75; of a judge that grades

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all: neither a label nor whether the answer is harmful."""
        return self.label is None and self.harmful is None


def lacks_verdict(decision: bool | Label | None, label: Label | None) -> bool:
    """Whether an answer is unscored: what decides it is missing. Degenerate is a verdict."""
    return decision is None and label != "degenerate"


def refused_in_full(label: Label | None) -> bool | None:
    """Whether the label is that of a full refusal; None: no label, or degenerate."""
    return None if label in (None, "degenerate") else label == "full_refusal"


@record
class JudgedAnswer:
    """One judge's verdict on one answer; one line of `verdicts-*.jsonl`."""

    id: str  # "attacked/goal-90/story"; the item
    verdict: Verdict


@record
class PublishedAgreement:
    """How far judges of this kind agree with another judge on answers to attacks, as published."""

    agreement: float  # 0.55; share of answers
    kappa: float  # 0.17; Cohen's
    n: int  # 519 answers
    judge: str  # "a GPT-4 judge"; the other one
    answers: str  # "OLMoE's answers to attacks"


@record
class JudgeIdentity:
    """Identity of a judge, and its known accuracy."""

    name: str  # "keywords"
    revision: str  # sha256 of what it decides by
    questions: tuple[Question, ...]  # what it can tell
    tells_partial: bool  # a partial refusal from the rest
    source: str | None  # "cais/HarmBench-Llama-2-13b-cls"; "http://localhost:8000/v1 llama"; None: built in
    published_accuracy: tuple[float, float] | None  # (0.80, 0.88) against human labels; None: not published
    smoke_test: bool  # True: its verdicts alone carry no claim of safety
    attacked_agreement: PublishedAgreement | None = None  # where it is known to be lower on attacked answers


def deciding_place(judges: Sequence[JudgeIdentity], question: Question) -> int | None:
    """Index of the judge that decides a question: the first that can tell it, smoke tests last; None if none can."""
    able = [place for place, judge in enumerate(judges) if question in judge.questions]
    return min(able, key=lambda place: judges[place].smoke_test, default=None)


def too_many_unscored(num_unscored: int, num_answers: int, allowed: float) -> bool:
    """Whether more of the answers have no verdict than the allowed share."""
    return num_unscored > allowed * num_answers


@record
class Agreement:
    """Agreement of two judges on the answers that both scored."""

    question: Question
    a: str  # "keywords"
    b: str  # "harmbench"
    n: int  # answers that both scored
    both_yes: int
    only_a: int
    only_b: int
    both_no: int
    agreement: float | None  # 0.93; None where n is 0
    kappa: float | None  # Cohen's; None where n is 0, or both say the same one thing always
    lower: float | None  # 95 %, over clusters; None: no kappa, or the same one in every resample
    upper: float | None


@record
class LabelStratum:
    """Items of one kind, and how many of them were drawn at random."""

    metric: str  # "attack success"
    suite: str  # "attacked"
    changed: bool | None  # whether the judge says different things of the two answers; None: drawn from both kinds
    drawn: int  # 50
    items: int  # 200; of which they were drawn

    @property
    def probability(self) -> float:
        """Probability that an item of the stratum was drawn."""
        return self.drawn / self.items


@record
class LabelDraw:
    """The draw of `moe label`: a file of answers of two runs, without the runs' names and without verdicts."""

    path: str  # "labels.csv"
    a: str  # "full_model_baseline"
    b: str
    draw: str  # "d93b1..."; what the file calls this draw
    seed: int
    items: int  # 150
    answers: int  # 291; rows of the file: an answer that both runs gave stands in it once
    strata: tuple[LabelStratum, ...]


@record
class LabelFile:
    """One labeller's file, and the two arms whose answers it labels."""

    name: str  # "labels_ann.csv"
    sha256: str
    a: str  # name of an arm
    b: str
    answers: int  # 300; rows of the file
    labelled: int  # 288; of them with a label


@record
class JudgeAlone:
    """A difference by the judge alone, without human labels."""

    rate_a: float
    rate_b: float
    difference: float
    lower: float
    upper: float
    p_value: float


@record
class LabelCorrection:
    """A difference as corrected by human labels."""

    n: int  # 150; items with a label of both arms
    drawn: int  # 150; items that were drawn to be labelled
    clusters: int  # 120; goals of the labelled items
    effective_clusters: float  # 118.2; goals of one size that they are worth
    weight: float  # 0.7; of the judge's word on what is not labelled: 0 rests on the labels alone
    rate_a: Estimate  # corrected with the weight of the difference, so that it is b - a
    rate_b: Estimate
    judge: JudgeAlone
    sensitivity: tuple[float | None, float | None]  # of the judge in a and b; None: people say no to all
    specificity: tuple[float | None, float | None]
    rogan_gladen: Estimate | None  # needs equal errors of the judge in both arms; None: it does not tell yes from no


Decision = Literal["plain forms", "attacked forms by harm", "attacked forms by refusal", "benign prompts"]


@record
class SideJudge:
    """A judge of `moe prepare`, and the questions it decides."""

    judge: JudgeIdentity
    decides: tuple[Decision, ...]  # empty: another one decides everything that it could tell
