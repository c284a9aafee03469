"""What every claim about two arms rests on: who they are, and what weakens it.

Different judges, or too many answers without a verdict, forbid a claim. A claim always names it where it rests on
results made elsewhere, one seed, a smoke-test judge, an unfair comparison or goals that were trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from moe_cli.compare.fairness import DIGEST_LENGTH
from moe_cli.compare.wording import compare_rates, corrected_text, format_points
from moe_cli.config.settings import MARGIN, MAX_UNSCORED
from moe_cli.records.comparison import (
    ComparedArm,
    FairnessCheck,
    PairComparison,
    PairedDifference,
    RunColumn,
    columns_of_arms,
)
from moe_cli.records.judging import JudgeIdentity, too_many_unscored
from moe_cli.records.training import IMPORTED
from moe_cli.stats.metrics import (
    QUESTION_OF,
    metric_and_suite,
)

ONE_SEED = "with one training seed per arm"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The arms of a comparison, and what claims about them rest on."""

    arms: Mapping[str, tuple[RunColumn, ...]]
    unfair: bool
    margin: float

    @classmethod
    def of(
        cls,
        columns: Sequence[RunColumn],
        arms: Sequence[ComparedArm],
        fairness: Sequence[FairnessCheck],
        margin: float,
    ) -> Evidence:
        """Evidence from the records of a comparison."""
        return cls(
            arms=dict(zip((arm.name for arm in arms), columns_of_arms(columns, arms), strict=True)),
            unfair=any(check.status == "differs" for check in fairness),
            margin=margin,
        )

    def columns_of(self, arm: str) -> tuple[RunColumn, ...]:
        """The runs of an arm."""
        return self.arms[arm]

    def with_untrained(self, pair: PairComparison) -> bool:
        """Whether one of the two arms was not trained."""
        return self.is_untrained(pair.a) or self.is_untrained(pair.b)

    def is_untrained(self, arm: str) -> bool:
        """Whether the arm is the model before training."""
        return self.arms[arm][0].is_untrained

    def differing_judges(self, pair: PairComparison, metric: str) -> tuple[str, ...]:
        """Judges that decide the metric in the runs of both arms, b first; empty where all runs have the same judge."""
        judges = dict.fromkeys((judge.name, judge.revision) for judge in self._judges(pair, metric))
        if len(judges) < 2:
            return ()
        alike = len({name for name, _ in judges}) < len(judges)
        return tuple(f"{name} {revision[:DIGEST_LENGTH]}" if alike else name for name, revision in judges)

    @property
    def price_margin(self) -> float:
        """How much worse another metric may become for safety: at most the default margin, whatever is set."""
        return min(self.margin, MARGIN)

    def other_margin(self) -> Iterator[str]:
        """The margin, if it is not the default; part of every sentence that depends on it."""
        if self.margin != MARGIN:
            yield f"at a margin of {format_points(self.margin)} points in the place of {format_points(MARGIN)}"

    def answer_limit(self, pair: PairComparison) -> str:
        """Where answers were cut off, after which harm is not seen: `token 32`."""
        evaluations = [column.evaluation for name in (pair.b, pair.a) for column in self.arms[name]]
        limits = {evaluation.generation.get("max_new_tokens") for evaluation in evaluations if evaluation} - {None}
        return f"token {' or '.join(map(str, sorted(map(str, limits))))}" if limits else "the cut"

    def cut_off_text(self, pair: PairComparison, cut_off: PairedDifference) -> str:
        """How many answers to attacks were cut off, and what that hides."""
        of_b, of_a = compare_rates(cut_off, True).split(" against ")
        shares = f"{pair.b} {of_b} and {pair.a} {of_a}"
        return f"answers to attacks were cut off ({shares}), so that harm after {self.answer_limit(pair)} is not seen"

    def judged_alike(self, pair: PairComparison) -> PairComparison:
        """The pair without verdicts where different judges decided: the difference may be only the judges'."""
        return replace(
            pair,
            differences=tuple(
                replace(difference, verdict="not comparable")
                if (metric := metric_and_suite(difference.metric)[0]) in QUESTION_OF
                and self.differing_judges(pair, metric)
                else difference
                for difference in pair.differences
            ),
        )

    def unscored_runs(self, pair: PairComparison) -> tuple[str, ...]:
        """Runs of both arms with more unscored answers than allowed, b first."""
        columns = [column for name in (pair.b, pair.a) for column in self.arms[name]]
        return tuple(column.name for column in columns if _is_overly_unscored(column))

    def _judges(self, pair: PairComparison, metric: str) -> list[JudgeIdentity]:
        """Judges that decide the metric, one for every judged run, b first; empty where no judge decides it."""
        question = QUESTION_OF[metric]
        evaluations = [column.evaluation for name in (pair.b, pair.a) for column in self.arms[name]]
        judges = [summary.judge_of(question) for summary in evaluations if summary] if question else []
        return [judge for judge in judges if judge]

    def caveats(self, pair: PairComparison, metric: str) -> Iterator[str]:
        """What weakens a claim about the pair in a metric."""
        runs = [self.arms[name] for name in (pair.a, pair.b)]
        columns = [column for arm in runs for column in arm]
        if self.unfair:
            yield "in a comparison that is not fair"
        if any(column.imported for column in columns):
            yield "as imported"
        if any(column.evaluation and column.evaluation.answer_files for column in columns):
            yield "on answers whose settings are not known"
        if any(column.evaluation and column.evaluation.server for column in columns):
            yield "on answers of a server whose weights are not checked"
        if any(column.evaluation and column.evaluation.steering for column in columns):
            yield "with a router that was steered"
        judges = self._judges(pair, metric)
        corrected = self.corrected(pair, metric)
        if corrected:
            yield corrected
        elif judges and all(judge.smoke_test for judge in judges):
            yield "by the word of a smoke-test judge only"
        if self._one_model(runs):
            yield "of the same weights"
        if not self.with_untrained(pair):
            yield from _routers(runs)
        yield from self._seeds([name for name in (pair.a, pair.b) if not self.is_untrained(name)])
        if any(column.goals_trained_on and column.goals_trained_on[0] for column in columns):
            yield "on goals that were partly trained on"

    def corrected(self, pair: PairComparison, metric: str) -> str | None:
        """How many labels correct a metric of the pair; None: it is uncorrected."""
        return next(
            (corrected_text(difference) for difference in pair.differences if difference.metric == metric), None
        )

    def _one_model(self, arms: Sequence[Sequence[RunColumn]]) -> bool:
        """Whether both arms answered with weights of the same fingerprint."""
        fingerprints = [
            {column.evaluation.model.fingerprint for column in arm if column.evaluation and column.evaluation.model}
            for arm in arms
        ]
        return bool(set.intersection(*fingerprints))

    def _seeds(self, trained: Sequence[str]) -> Iterator[str]:
        single = [name for name in trained if _num_runs(self.arms[name]) == 1]
        if single and len(single) == len(trained):
            yield "with one run per arm" if self.arms[single[0]][0].training_mode == IMPORTED else ONE_SEED
        elif single:
            yield f"with one training seed of {single[0]}"


def _is_overly_unscored(column: RunColumn) -> bool:
    """Whether more answers have no verdict than were allowed, or than are by default where they were imported."""
    if column.imported is not None:
        return too_many_unscored(column.imported.unanswered, column.imported.n, MAX_UNSCORED)
    return column.evaluation is not None and bool(column.evaluation.overly_unscored)


def _num_runs(columns: Sequence[RunColumn]) -> int:
    """The number of runs of an arm; imported ones with the same outcome for every item are one."""
    return len({column.imported.sha256 if column.imported else column.name for column in columns})


def _routers(arms: Sequence[Sequence[RunColumn]]) -> Iterator[str]:
    """What one of two arms was given for its routers and the other was not."""
    own, joint = (
        [any(column.routers and column.routers.joint is together for column in arm) for arm in arms]
        for together in (False, True)
    )
    if len(set(own)) > 1:
        yield "with further steps, of routers, in one arm alone"
    if len(set(joint)) > 1:
        yield "with routers trained in the experts' steps in one arm alone"
