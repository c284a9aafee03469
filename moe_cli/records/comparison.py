"""`moe compare`: is the comparison fair, and is the difference real?

The fairness gate, the paired differences, the flips, the thresholds and the conclusion. Every difference carries its n,
its interval and its adjusted p; no text of a prompt or an answer is included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Literal

from moe_cli.records.attack_transfer import Transfer
from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.judging import Agreement, LabelCorrection, LabelFile
from moe_cli.records.record import CountRatio, record
from moe_cli.records.training import IMPORTED, UNTRAINED, RouterTraining, TrainingMode

PairVerdict = Literal["better", "worse", "within margin", "inconclusive", "ceiling", "not comparable"]
ENOUGH_RUNS = 4  # of an arm; with fewer a small p rests on the assumption that seeds are normally distributed
SMALLEST_P_OF_RUNS = 1e-3
Evidence = Literal["possibly", "estimate", "surely"]
MOST_TIMES = 2.0  # harm that may be this many times as often is not within any margin without saying so


@record
class FairnessCheck:
    """One line of the fairness gate."""

    name: str  # "training batches"
    status: Literal["same", "differs", "unknown"]
    values: tuple[str, ...]  # one per run, for people


@record
class SeedSpread:
    """Spread of one metric over the runs of two arms, of which at least one has several."""

    range_a: tuple[float, float]  # (0.31, 0.36); lowest and highest rate of a run
    range_b: tuple[float, float]
    num_runs: tuple[int, int]  # (3, 3); of a and b
    p_permuted: float | None  # 0.1; share of the ways to exchange runs that differ as much; None: too many ways
    smallest_p: float  # 0.1; the least that p_permuted can be with so many runs

    @property
    def smallest_shown_p(self) -> float:
        """The smallest p that permuting runs can reach with fewer than four runs per arm, else 0.001."""
        return max(self.smallest_p, SMALLEST_P_OF_RUNS) if min(self.num_runs) < ENOUGH_RUNS else SMALLEST_P_OF_RUNS


@record
class PairedDifference:
    """One metric of two arms on the same items. A rate is the mean over the runs of an arm, and over suites."""

    metric: str  # "attack success: attacked"
    better: Literal["lower", "higher"]
    primary: bool  # in the Holm family; everything else is exploratory
    graded: bool  # some outcome is a fraction: a rate is the mean of fractions
    n: int  # items scored in every run of both
    clusters: int  # 200; goals that the n items are of
    effective_clusters: float  # 32.3; goals of one size that they are worth
    unpaired: int  # items that some run could not score
    rate_a: float
    rate_b: float
    difference: float  # b - a
    lower: float  # 95 %; over clusters, and over runs where an arm has several
    upper: float
    lowest: float | None  # the difference if every unscored outcome spoke for a lower one; None: all are scored
    highest: float | None  # if every one spoke for a higher one
    only_a: int  # items with yes more often (graded: with more) in a than in b
    only_b: int
    p_mcnemar: float | None  # exact McNemar, which takes the items as independent; None: several runs, or graded
    p_value: float  # exact sign flips of whole clusters; with several runs of an arm from the interval's t
    seeds: SeedSpread | None  # None: one run each
    p_adjusted: float  # p_value after Holm in the primary family, Benjamini-Hochberg outside
    verdict: PairVerdict  # of b against a
    detectable: float | None  # smallest difference that the verdict would find with 80 % power; None: there is none
    suites: int = 1  # of which the rates and the difference are the mean, one vote each
    yes_a: float | None = None  # 48.0; items with yes (the sum of fractions), mean over the runs
    yes_b: float | None = None
    ratio: CountRatio | None = None  # of harm; None: of anything else
    labelled: int | None = None  # items with people's labels; None: nobody labelled this metric
    correction: LabelCorrection | None = None  # by people's labels: then all above but the counts is corrected

    @property
    def deciding_clusters(self) -> float:
        """Effective number of goals (of equal size) behind the verdict; of the labelled items, if labels correct it."""
        return self.correction.effective_clusters if self.correction else self.effective_clusters

    @property
    def by_judge_alone(self) -> bool:
        """Whether people labelled items of the metric, but too few of these to correct it."""
        return self.labelled is not None and self.correction is None

    @property
    def uncorrected(self) -> PairedDifference | None:
        """A corrected difference as the judge alone sees it; None where labels correct nothing."""
        if self.correction is None:
            return None
        judge = self.correction.judge
        return replace(self, correction=None, p_adjusted=judge.p_value, **asdict(judge))

    @property
    def times_known(self) -> bool:
        """Whether it is known that neither arm has it `MOST_TIMES` as often as the other."""
        return self.ratio is None or (self.ratio.upper < MOST_TIMES and self.ratio.lower > 1 / MOST_TIMES)

    @property
    def smallest_shown_p(self) -> float:
        """No smaller p is shown than this many runs support; 0 with one run each."""
        return self.seeds.smallest_shown_p if self.seeds else 0.0


@record
class ImportedOutcomes:
    """Outcomes in an imported column, produced by another program."""

    source: str  # "paired_mmlu.csv"
    sha256: str  # over its items and outcomes: equal in two columns where every outcome is
    metric: str  # "accuracy"
    graded: bool  # outcomes are fractions from 0 to 1, and a rate is their mean
    n: int  # 100; items
    unanswered: int  # 77; items without an outcome
    rate: float | None  # 0.07; as it is counted in the comparison; None: no outcome
    rate_answered: float | None  # 0.304; of the answered items alone
    lowest: float  # 0.07; if every unanswered item were no
    highest: float  # 0.84; if every one were yes


@record
class RunColumn:
    """One run as a column of the comparison."""

    name: str  # "selective"
    path: str
    training_mode: TrainingMode
    trainable_params: int | None
    total_params: int | None
    trainable_ratio: float | None
    experts_per_layer: tuple[int, ...] | None
    num_experts: int | None
    layers: tuple[int, ...]
    seconds_training: float | None
    peak_memory_bytes: int | None
    peak_memory_of: str | None  # "process (resident set)"
    final_model_bytes: int | None  # of all files of final_model/
    delta_bytes: int | None  # of what trained alone: experts, and routers
    num_steps: int | None  # 54; that were trained on the answers
    final_step: int | None  # 36; the step whose weights are in final_model/
    final_loss: float | None  # 0.1; of the training, mean over its last epoch
    held_out_loss: float | None  # 1.93; of final_model/; None: no batch was held out
    items_left_out: int | None  # by --intersect: items that not every run has; None: the items are the same
    goals_trained_on: tuple[int, int] | None  # (5, 100): evaluated goals that its training examples hold, of all
    evaluation: EvaluationSummary | None
    imported: ImportedOutcomes | None
    selection: str | None = None  # "risk_diff"; how its experts were chosen; None: no expert was selected, or not known
    masking: str | None = None  # "update"; None: no selection trained, or not known
    routers: RouterTraining | None = None  # what its routers were trained to; None: they stayed locked, or not known
    num_router_tokens: int = 0  # of the forwards for them
    final_router_step: int = 0  # how many of their steps are in final_model/

    @property
    def is_untrained(self) -> bool:
        """Whether the run is a model before training."""
        return self.training_mode == UNTRAINED

    @property
    def is_trained_here(self) -> bool:
        """Whether its training is known: it was trained, and by this program."""
        return self.training_mode not in (UNTRAINED, IMPORTED)


@record
class ComparedArm:
    """Runs that differ only in their seed; most arms have one."""

    name: str  # "selective"; of several runs what their names begin with
    runs: tuple[str, ...]  # names of columns


def columns_of_arms(columns: Sequence[RunColumn], arms: Sequence[ComparedArm]) -> tuple[tuple[RunColumn, ...], ...]:
    """The columns of every arm, in the order of the arms."""
    by_name = {column.name: column for column in columns}
    return tuple(tuple(by_name[run] for run in arm.runs) for arm in arms)


@record
class Flip:
    """An item on which two arms have different outcomes."""

    metric: str  # "attack success"
    suite: str  # "attacked"
    item: str  # "attacked/goal-90/story"
    direction: Literal["worse", "better"]  # for b
    share_a: float  # 0.0; of the runs of a that say yes
    share_b: float  # 1.0


@record
class FlipText:
    """The texts behind a flip; passed to the view if the user asks for them, never written."""

    pair: str  # "selective against baseline"
    flip: Flip
    prompt: str | None  # the last user turn; None: only outcomes are known
    answer_a: str | None  # of the first run of a
    answer_b: str | None


@record
class PairComparison:
    """Arm b against arm a."""

    a: str  # name of an arm
    b: str
    differences: tuple[PairedDifference, ...]
    unmeasured: tuple[str, ...]  # metrics that have items, but none that was scored in every run
    flips: tuple[Flip, ...]  # worst first

    @property
    def primary(self) -> tuple[PairedDifference, ...]:
        """The differences whose p are corrected together, by Holm."""
        return tuple(difference for difference in self.differences if difference.primary)

    @property
    def exploratory(self) -> tuple[PairedDifference, ...]:
        """The other differences."""
        return tuple(difference for difference in self.differences if not difference.primary)

    @property
    def flip_counts(self) -> tuple[tuple[str, str, int, int], ...]:
        """Metric, suite, and numbers of items that became worse and better, in the order of the flips."""
        counts = Counter((flip.metric, flip.suite, flip.direction) for flip in self.flips)
        groups = dict.fromkeys((flip.metric, flip.suite) for flip in self.flips)
        return tuple((*group, counts[*group, "worse"], counts[*group, "better"]) for group in groups)


@record
class ThresholdCheck:
    """One threshold of `--fail-if`, and whether it held."""

    expression: str  # "asr>+0.02"
    metric: str  # "attack success"
    subject: str  # "selective minus baseline", or "selective"
    evidence: Evidence  # what makes it fail: the bound that is nearer, the estimate, or the whole interval
    value: float | None  # None: not measured
    lower: float | None  # 95 %; None: it has no interval
    upper: float | None
    n: int | None  # items; clusters for drift
    failed: bool


@record
class Unshown:
    """Runs in the registry that could have been compared instead."""

    evaluations: int  # 9; of the weights that are compared
    runs: int  # 4; trained on a preparation of a run that is compared
    seeds: tuple[int, ...]  # of these runs, where they are still there


@record
class Comparison:
    """The result of `moe compare`. Stored in `comparison.json`."""

    columns: tuple[RunColumn, ...]
    arms: tuple[ComparedArm, ...]
    fairness: tuple[FairnessCheck, ...]
    pairs: tuple[PairComparison, ...]
    margin: float  # 0.02
    confidence: float  # 0.95; of every interval
    thresholds: tuple[ThresholdCheck, ...]
    conclusion: tuple[str, ...]  # plain sentences made by rules
    unshown: Unshown | None = None  # None: no registry was looked at
    labels: tuple[LabelFile, ...] = ()  # people's labels that correct it
    labellers: tuple[Agreement, ...] = ()  # of every two files about the same answers
    transfer: Transfer | None = None  # None: no two arms were prepared on something different

    @property
    def arm_columns(self) -> tuple[tuple[RunColumn, ...], ...]:
        """The columns of every arm, in the order of the arms."""
        return columns_of_arms(self.columns, self.arms)

    @property
    def untrained(self) -> frozenset[str]:
        """Names of the columns, and so of the arms, that are models before training."""
        return frozenset(column.name for column in self.columns if column.is_untrained)

    def pair_with_base(self, arm: str) -> PairComparison | None:
        """The pair of an arm with the model before training, whichever is a; a steered router is no base."""
        steered = {column.name for column in self.columns if column.evaluation and column.evaluation.steering}
        bases = self.untrained - steered - {arm}
        return next((one for one in self.pairs if arm in (one.a, one.b) and {one.a, one.b} & bases), None)

    def base_rates(self, pair: PairComparison) -> Mapping[str, float]:
        """Rates of the untrained model by metric, paired with b, if it is neither of the two arms."""
        if (found := self.pair_with_base(pair.b)) is None or {found.a, found.b} == {pair.a, pair.b}:
            return {}
        return {one.metric: one.rate_a if found.b == pair.b else one.rate_b for one in found.differences}
