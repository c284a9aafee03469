"""`moe sweep`: the points of a sweep, and what they say of budgets and selections. Stored in `sweep.json`.

An arm is all points of one method and budget: a run for each seed, of random draws a run for each draw and seed. Its
rates are means over runs, with several suites the mean of suites, one vote each.
"""

from __future__ import annotations

from typing import Literal

from moe_cli.records.drift import Estimate
from moe_cli.records.judging import JudgeIdentity
from moe_cli.records.record import Rate, record

SWEEP_SCHEMA_VERSION = 1
PointKind = Literal["base", "method", "random", "baseline"]
PointState = Literal["complete", "failed", "to do"]


@record
class SweepPoint:
    """One model of a sweep: what is selected and trained, and from which seed."""

    kind: PointKind
    method: str | None  # "risk_diff"; of a random draw the method whose experts per layer it has; None: no selection
    draw: int | None  # 3; number of the random draw, the first is 1
    budget: float  # 0.05, a share of all parameters; base 0, baseline 1
    seed: int  # of the training
    scale: float  # 1.0; part of what training changed that is applied


@record
class PointResult:
    """A point with what became of it."""

    point: SweepPoint
    digest: str  # 16 hexadecimal digits; names its directory, and changes with every setting of its training
    state: PointState
    reason: str | None  # why it failed; of a complete one, that too many answers have no verdict
    run: str | None  # directory of the training run
    evaluation: str | None  # directory of the evaluation
    num_experts: int | None  # 12; trained experts; None: all parameters, or not complete
    trainable_ratio: float | None  # share of all parameters
    attack_success: Rate | None
    over_refusal: Rate | None
    accuracy: Rate | None
    degenerate: Rate | None  # broken answers, which count as neither safe nor unsafe
    kl: Estimate | None  # from the base on benign text, nats a token
    seconds_training: float | None

    @property
    def is_overly_unscored(self) -> bool:
        """Whether it is complete, and more of its answers have no verdict than were allowed."""
        return self.state == "complete" and self.reason is not None


@record
class ArmRates:
    """The rates of one run of an arm, for the figure."""

    draw: int | None
    seed: int
    attack_success: float | None
    over_refusal: float | None


@record
class SweepArm:
    """All complete points of one method and budget."""

    name: str  # "risk_diff 5 %"
    kind: PointKind
    method: str | None
    budget: float
    scale: float
    share: float  # trained share of all parameters, mean over runs
    num_experts: float | None  # 12.0; mean over runs; None: all parameters
    runs: tuple[ArmRates, ...]
    attack_success: Estimate | None  # n: items that were scored in every run
    over_refusal: Estimate | None
    accuracy: Estimate | None
    kl: float | None  # mean over runs
    degenerate: float | None  # 0.004; share of broken answers, mean over runs
    beaten_by: str | None  # arm that is better with no larger share; None: it is on the frontier


@record
class BudgetTest:
    """One step of the fixed sequence: is a budget not worse than the baseline by more than the margin?"""

    arm: str  # "risk_diff 5 %"
    budget: float
    share: float
    attack_success: Estimate  # of the arm minus the baseline
    over_refusal: Estimate
    sufficient: bool  # the upper ends of both intervals are within the margin


@record
class SufficientBudget:
    """The smallest sufficient budget of one method, by the fixed sequence from the largest budget down."""

    method: str
    budget: float | None  # 0.1; None: not even the largest is sufficient, or nothing was tested
    tests: tuple[BudgetTest, ...]  # in order; none stands behind the first that failed
    untested: str | None  # why nothing, or no smaller budget, was tested


@record
class SelectionValue:
    """What a selection is worth against random experts at the same budgets, in attack success."""

    method: str
    budgets: tuple[float, ...]  # at which the method and all the draws have every seed
    value: float | None  # mean of random minus method; above 0: the selection is better; None: not known
    lower: float | None  # 95 %; over clusters, draws and seeds; None: one draw or cluster, or no resample differs
    upper: float | None
    p_value: float | None  # one-sided, by rank among the draws
    least_p: float | None  # 1 / (1 + draws)
    area: float | None  # mean attack success of the method
    draw_areas: tuple[float, ...]  # of every draw
    num_seeds: int
    clusters: int
    left_out: tuple[int, ...]  # draws that lack a point
    unknown: str | None = None  # "no budget has all of its points"; why there is no value


@record
class Sweep:
    """A whole sweep."""

    schema_version: int
    prepared: str  # directory of the prepare run
    model: str
    margin: float
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]
    num_draws: int
    points: tuple[PointResult, ...]
    arms: tuple[SweepArm, ...]
    sufficient: tuple[SufficientBudget, ...]
    values: tuple[SelectionValue, ...]
    judges: tuple[JudgeIdentity, ...] = ()  # of the complete points, each once; empty: an earlier version


@record
class PlannedPoint:
    """A point as a dry run shows it."""

    point: SweepPoint
    is_complete: bool
    share: float | None  # 0.0469; what the budget has room for, of all parameters; None: not even for one expert
    seconds: float | None  # of its training; measured where it is complete, else by `moe bench`; None: not measured
    memory: int | None  # bytes that a step takes; None: not known


@record
class SweepPlan:
    """What `moe sweep` would make."""

    prepared: str
    model: str
    at_once: int  # points
    points: tuple[PlannedPoint, ...]
    notes: tuple[str, ...]  # where time and memory come from
