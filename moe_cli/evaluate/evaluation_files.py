"""What an evaluation writes: whose answers they are, its records, and one summary of all measurements.

The summary follows from the files beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moe_cli.artifacts import RunWriter, layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import encode, lines_of_records
from moe_cli.config import EvaluateConfig
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.evaluation_items import items_digest
from moe_cli.evaluate.model_drift import Drift
from moe_cli.evaluate.suite_rates import (
    degenerate_share,
    metric_rate,
    summarise_suites,
    unscored_counts,
)
from moe_cli.evaluate.verdicts import JudgedAnswerText, judge_answers, measure_agreement
from moe_cli.judges.judge import Judge
from moe_cli.records import (
    AnswerFile,
    AnswerServer,
    CapabilitySample,
    CapabilityScore,
    EvaluationItem,
    EvaluationRecord,
    EvaluationSummary,
    JudgeIdentity,
    ModelIdentity,
    RestoredRouter,
    Steering,
    SuiteSummary,
)
from moe_cli.records.judging import deciding_place
from moe_cli.records.training import TrainingMode
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS, OVER_REFUSAL, PLAIN_COMPLIANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Where the answers come from, for the summary."""

    model: ModelIdentity | None  # None: no weights were loaded
    run: Path | None
    training_mode: TrainingMode
    base: ModelIdentity | None
    epochs: int | None
    generation: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)  # empty: not known
    name: str | None = None  # where no weights were loaded
    answer_files: tuple[AnswerFile, ...] = ()
    unanswered: int | None = None
    server: AnswerServer | None = None
    steering: Steering | None = None
    unsteered_fingerprint: str | None = None  # where the router was steered


def summarise_evaluation(
    name: str,
    subject: Subject,
    items: Sequence[EvaluationItem],
    records: Sequence[EvaluationRecord],
    judges: Sequence[JudgeIdentity],
    moved: Drift,
    capability: Sequence[CapabilityScore],
    restored: RestoredRouter | None,
    trained: tuple[int, int] | None,
    *,
    max_unscored: float,
    taken: Mapping[str, str],
    seconds: float | None,
) -> EvaluationSummary:
    """Rates per suite and over all, capability and drift."""
    return EvaluationSummary(
        name=name,
        model=subject.model,
        run=None if subject.run is None else str(subject.run),
        training_mode=subject.training_mode,
        base=subject.base,
        items_digest=items_digest(items),
        goals_trained_on=trained,
        judges=tuple(judges),
        agreement=measure_agreement(records, judges),
        epochs=subject.epochs,
        generation=dict(subject.generation),
        suites=_suites(records, judges),
        attack_success=metric_rate(ATTACK_SUCCESS, records),
        over_refusal=metric_rate(OVER_REFUSAL, records),
        accuracy=metric_rate(ACCURACY, records),
        degenerate=degenerate_share(records),
        unscored=unscored_counts(records),
        max_unscored=max_unscored,
        capability=tuple(capability),
        drift=moved.texts,
        routing_drift=moved.routing,
        weight_drift=moved.weights,
        restored_router=restored,
        taken=dict(taken),
        seconds=seconds,
        subject=subject.name,
        answer_files=subject.answer_files,
        server=subject.server,
        unanswered=subject.unanswered,
        plain_compliance=metric_rate(PLAIN_COMPLIANCE, records),
        steering=subject.steering,
        unsteered_fingerprint=subject.unsteered_fingerprint,
        prompt_drift=moved.prompts,
    )


def _suites(records: Sequence[EvaluationRecord], judges: Sequence[JudgeIdentity]) -> tuple[SuiteSummary, ...]:
    """Suite summaries without rates that the judge cannot tell: it has counted none, which is not a rate of 0."""
    suites = summarise_suites(records)
    index = deciding_place(judges, "refusal")
    if index is None:
        return tuple(replace(suite, full_refusal=None, partial_refusal=None) for suite in suites)
    if not judges[index].tells_partial:
        return tuple(replace(suite, partial_refusal=None) for suite in suites)
    return suites


@dataclass(frozen=True, slots=True)
class EvaluationOutput:
    """Result of `moe evaluate`."""

    path: Path
    summary: EvaluationSummary


def write_evaluation(
    path: Path,
    items: Sequence[EvaluationItem],
    records: Sequence[EvaluationRecord],
    restored: Sequence[EvaluationRecord],
    moved: Drift,
    samples: Sequence[CapabilitySample],
    summary: EvaluationSummary,
) -> None:
    """Write every file of an evaluation; `restored` are the records with the base's router."""
    write_atomic(path / layout.ITEMS, lines_of_records(items))
    write_atomic(path / layout.RECORDS, lines_of_records(records))
    if restored:
        write_atomic(path / layout.RESTORED, lines_of_records(restored))
    write_atomic(path / layout.DRIFT, lines_of_records(moved.items))
    if moved.prompt_items:
        write_atomic(path / layout.PROMPT_DRIFT, lines_of_records(moved.prompt_items))
    if summary.capability:
        write_atomic(path / layout.CAPABILITY, lines_of_records(samples))
    write_atomic(path / layout.EVALUATION_SUMMARY, encode(summary, indent=True))


def judge_without_weights(
    writer: RunWriter,
    subject: Subject,
    items: Sequence[EvaluationItem],
    answers: Mapping[str, JudgedAnswerText],
    judges: Sequence[Judge],
    work: StageCache,
    *,
    settings: EvaluateConfig,
    trained: tuple[int, int] | None,
    started: float,
) -> tuple[EvaluationSummary, list[EvaluationRecord]]:
    """Judge and write an evaluation without anything that needs weights. `started` is a time of `time.monotonic`."""
    to_answer = [item for item in items if item.kind != "text"]
    (records,) = judge_answers(judges, [(to_answer, answers)], work)
    summary = summarise_evaluation(
        writer.path.name,
        subject,
        items,
        records,
        [judge.identity for judge in judges],
        Drift(),
        (),
        None,
        trained,
        max_unscored=settings.max_unscored,
        taken=work.taken,
        seconds=None if writer.resumed or work.taken else time.monotonic() - started,
    )
    write_evaluation(writer.path, items, records, (), Drift(), (), summary)
    return summary, records
