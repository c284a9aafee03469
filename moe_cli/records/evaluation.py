"""`moe evaluate`: one item, one answer, one verdict; then rates with their counts.

Comes in: what a model answered and what a judge said. Goes out: the nouns of an evaluation, and what one record counts
as in each metric (the only place that decides it). Always holds: None means not counted, never no.
"""

from __future__ import annotations

from typing import Literal

from moe_cli.records.inputs import EvaluationItem, ModelIdentity
from moe_cli.records.preparation import Label
from moe_cli.records.record import record


@record
class Verdict:
    """What a judge says about one answer; an unreadable verdict is unscored, never safe and never unsafe."""

    label: Label | None  # None: unscored
    harmful: bool | None  # None: unknown, or not asked because the item is benign
    reason: str  # "refusal: i can't help"


@record
class JudgeIdentity:
    """Which judge this is, and how far it can be trusted."""

    name: str  # "keywords"
    revision: str  # sha256 of what it decides by
    published_accuracy: tuple[float, float] | None  # (0.80, 0.88) against human labels; None: not published
    smoke_test: bool  # True: its verdicts alone carry no claim of safety


@record
class EvaluationRecord:
    """One item with its answer and verdict; one line of `records.jsonl`."""

    item: EvaluationItem
    answer: str
    num_answer_tokens: int
    finished: bool  # False: cut off by the token limit
    verdict: Verdict
    correct: bool | None  # exact match with `expected`; None where nothing is expected

    @property
    def is_unscored(self) -> bool:
        """Whether the judge said nothing that can be used; degenerate is a verdict."""
        no_harm_verdict = self.item.kind == "harmful" and self.verdict.harmful is None
        return self.verdict.label is None or (no_harm_verdict and self.verdict.label != "degenerate")

    @property
    def is_degenerate(self) -> bool | None:
        """Empty, symbol noise or a loop; None where there is no verdict."""
        return None if self.verdict.label is None else self.verdict.label == "degenerate"

    @property
    def attack_succeeded(self) -> bool | None:
        """Harmful; None where unscored or degenerate, which is neither safe nor unsafe."""
        return self.verdict.harmful if self.is_degenerate is False else None

    @property
    def refused(self) -> bool | None:
        """Refused in full; None where unscored or degenerate."""
        return self.verdict.label == "full_refusal" if self.is_degenerate is False else None

    @property
    def partly_refused(self) -> bool | None:
        """Refused in part; None where unscored or degenerate."""
        return self.verdict.label == "partial_refusal" if self.is_degenerate is False else None

    @property
    def is_right(self) -> bool:
        """Gave the expected answer; an answer that is missing or cannot be read is wrong, never left out."""
        return self.correct is True


@record
class Rate:
    """A proportion that never stands without its counts."""

    k: int  # 12
    n: int  # 97; scored
    unscored: int  # 3; counted apart, never in n
    rate: float | None  # 0.124; None where n is 0
    lower: float | None  # Wilson, 95 %
    upper: float | None
    lowest: float | None  # bound if every unscored item were counted as no
    highest: float | None  # bound if every unscored item were counted as yes


@record
class DriftItem:
    """Drift on one held-out text; one line of `drift.jsonl`."""

    id: str
    cluster: str
    num_tokens: int  # answer tokens compared
    nll_base: float  # summed negative log likelihood, nats
    nll_tuned: float
    kl_tokens: tuple[float, ...]  # KL(base || tuned) of every compared token, nats
    same_top: int  # tokens whose most likely token is the same


@record
class Estimate:
    """A number with its 95 % interval and the n it rests on."""

    value: float
    lower: float | None  # None: fewer than two clusters carry no interval
    upper: float | None
    n: int  # clusters, the independent units


@record
class DriftSummary:
    """How far the model moved from its base on benign text."""

    perplexity_ratio: Estimate  # tuned / base; bootstrap over clusters
    kl_mean: Estimate  # KL(base || tuned) per token, nats
    kl_99: float  # 99 % quantile over all tokens
    same_top_share: Estimate
    perplexity_base: float
    perplexity_tuned: float
    num_tokens: int


@record
class SuiteSummary:
    """The rates of one suite."""

    suite: str  # "attacked"
    kind: Literal["harmful", "benign"]
    n: int  # items
    attack_success: Rate | None  # harmful suites
    over_refusal: Rate | None  # benign suites: full refusals
    partial_refusal: Rate
    accuracy: Rate | None  # suites with expected answers
    degenerate: Rate
    cut_off: Rate  # answers that ran into the token limit
    mean_answer_tokens: float


@record
class EvaluationSummary:
    """What `moe evaluate` measured. Lives in `summary.json`."""

    name: str  # "default"
    model: ModelIdentity
    run: str | None  # directory of the training run; None: a bare model
    training_mode: str  # "selective_experts", "full_model_baseline" or "base"
    base: ModelIdentity | None  # for drift; None where there is no base to compare with
    items_digest: str  # sha256 over the items in order of id
    judge: JudgeIdentity
    generation: dict[str, str | int | float | bool | None]  # settings, batch size and dtype
    suites: tuple[SuiteSummary, ...]
    attack_success: Rate | None  # over all harmful items; None where there are none
    over_refusal: Rate | None  # over all benign suites
    accuracy: Rate | None  # over all items with an expected answer
    degenerate: Rate  # over all answers
    drift: DriftSummary | None
    seconds: float | None  # None: in several goes
