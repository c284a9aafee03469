"""All that an evaluation measured, in one record.

Comes in: what the stages made. Goes out: an `EvaluationSummary`. Always holds: it follows from the files beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from moe_cli.evaluate.agreement import measure_agreement
from moe_cli.evaluate.metrics import (
    accuracy,
    attack_success,
    degenerate_share,
    over_refusal,
    plain_compliance,
    summarise_suites,
    unscored_counts,
)
from moe_cli.evaluate.moved import Drift
from moe_cli.evaluate.subject import Subject
from moe_cli.evaluate.suites import items_digest
from moe_cli.judges.deciding import deciding_place
from moe_cli.records import (
    CapabilityScore,
    EvaluationItem,
    EvaluationRecord,
    EvaluationSummary,
    JudgeIdentity,
    RestoredRouter,
    SuiteSummary,
)


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
        attack_success=attack_success(records),
        over_refusal=over_refusal(records),
        accuracy=accuracy(records),
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
        plain_compliance=plain_compliance(records),
    )


def _suites(records: Sequence[EvaluationRecord], judges: Sequence[JudgeIdentity]) -> tuple[SuiteSummary, ...]:
    """A judge that cannot tell a refusal, or a partial one, has counted none, which is not a rate of 0."""
    suites = summarise_suites(records)
    place = deciding_place(judges, "refusal")
    if place is None:
        return tuple(replace(suite, full_refusal=None, partial_refusal=None) for suite in suites)
    if not judges[place].tells_partial:
        return tuple(replace(suite, partial_refusal=None) for suite in suites)
    return suites
