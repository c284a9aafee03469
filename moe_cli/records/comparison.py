"""`moe compare`: is the comparison fair, and is the difference real?

Comes in: what two or more runs say about themselves and their answers to the same items. Goes out: the gate, the paired
differences and the conclusion. Always holds: every difference carries its n, its interval and its adjusted p.
"""

from __future__ import annotations

from typing import Literal

from moe_cli.records.evaluation import EvaluationSummary
from moe_cli.records.record import record

PairVerdict = Literal["better", "worse", "within margin", "inconclusive", "ceiling"]


@record
class FairnessCheck:
    """One line of the fairness gate."""

    name: str  # "training batches"
    status: Literal["same", "differs", "unknown"]
    values: tuple[str, ...]  # one per run, for people


@record
class PairedDifference:
    """One metric of two runs on the same items."""

    metric: str  # "attack success: attacked"
    better: Literal["lower", "higher"]
    primary: bool  # in the Holm family; everything else is exploratory
    n: int  # items scored in both
    clusters: int
    unpaired: int  # items that only one of the two could score, or neither
    rate_a: float
    rate_b: float
    difference: float  # b - a
    lower: float  # 95 %, cluster-robust
    upper: float
    only_a: int  # items with yes in a and no in b
    only_b: int
    p_mcnemar: float  # exact McNemar, which takes the items as independent: too small where clusters hold several
    p_value: float  # exact sign flips of whole clusters; exact McNemar where every cluster is one item
    p_adjusted: float  # p_value after Holm in the primary family, Benjamini-Hochberg outside
    verdict: PairVerdict  # of b against a
    detectable: float  # smallest difference that this n would find with 80 % power


@record
class RunColumn:
    """One run as a column of the comparison."""

    name: str  # "selective"
    path: str
    training_mode: str
    trainable_params: int | None
    total_params: int
    trainable_ratio: float | None
    experts_per_layer: tuple[int, ...] | None
    num_experts: int
    layers: tuple[int, ...]
    seconds_training: float | None
    peak_memory_bytes: int | None
    peak_memory_of: str | None  # "process (resident set)"
    final_loss: float | None
    evaluation: EvaluationSummary | None


@record
class PairComparison:
    """Run b against run a."""

    a: str  # name of a column
    b: str
    differences: tuple[PairedDifference, ...]
    unmeasured: tuple[str, ...]  # metrics that have items, but none that was scored in both runs


@record
class Comparison:
    """What `moe compare` says. Lives in `comparison.json`."""

    columns: tuple[RunColumn, ...]
    fairness: tuple[FairnessCheck, ...]
    pairs: tuple[PairComparison, ...]
    margin: float  # 0.02
    conclusion: tuple[str, ...]  # plain sentences made by rules
