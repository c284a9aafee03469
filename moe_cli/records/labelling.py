"""People's labels: what was drawn to be labelled, whose labels a comparison rests on, and what they corrected."""

from __future__ import annotations

from moe_cli.records.drift import Estimate
from moe_cli.records.record import record


@record
class LabelStratum:
    """Items of one kind of which as many as said were drawn at random."""

    metric: str  # "attack success"
    suite: str  # "attacked"
    changed: bool | None  # whether the judge says different things of the two answers; None: drawn from both kinds
    drawn: int  # 50
    items: int  # 200; of which they were drawn

    @property
    def probability(self) -> float:
        """That an item of it was drawn."""
        return self.drawn / self.items


@record
class LabelDraw:
    """What `moe label` drew: a file of answers of two runs, without their names and without verdicts."""

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
    """A difference as the judge sees it, without people's labels."""

    rate_a: float
    rate_b: float
    difference: float
    lower: float
    upper: float
    p_value: float


@record
class LabelCorrection:
    """What people's labels made of a difference."""

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
