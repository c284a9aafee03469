"""The entry of a run in a listing: its state, and its most important figures."""

from __future__ import annotations

from pathlib import Path

from moe_cli.artifacts import layout
from moe_cli.artifacts.finished import FinishedRun, finished_run
from moe_cli.artifacts.registry import state_of
from moe_cli.errors import ArtifactError
from moe_cli.records import (
    Ablation,
    AblationResult,
    Comparison,
    ComparisonResult,
    EvaluationResult,
    EvaluationSummary,
    PrepareResult,
    RunListing,
    RunRecord,
    RunResult,
    Selection,
    Sweep,
    SweepResult,
    TrainingResult,
    TrainingSummary,
)
from moe_cli.stats.metrics import ATTACK_SUCCESS, OVER_REFUSAL, PLAIN_COMPLIANCE


def listing_of(run: RunRecord) -> RunListing:
    """A registered run with its result; an unreadable file is reported in its entry, so that the others are listed."""
    state = state_of(run)
    if state != "complete":
        return RunListing(run=run, state=state, result=None, problem=None)
    try:
        return RunListing(run=run, state=state, result=_result_of(finished_run(Path(run.path))), problem=None)
    except ArtifactError as error:
        return RunListing(run=run, state=state, result=None, problem=error.message)


def _result_of(run: FinishedRun) -> RunResult:
    match run.manifest.kind:
        case "prepare":
            return _prepared(run.record(layout.SELECTION, Selection))
        case "selective" | "baseline" | "alternating":
            return _trained(run.record(layout.METADATA, TrainingSummary))
        case "evaluation":
            return _evaluated(run.record(layout.EVALUATION_SUMMARY, EvaluationSummary).with_plain_goals_apart)
        case "comparison":
            return _compared(run.record(layout.COMPARISON, Comparison))
        case "ablation":
            return _ablated(run.record(layout.ABLATION, Ablation))
        case "sweep":
            return _swept(run.record(layout.SWEEP, Sweep))


def _prepared(selection: Selection) -> PrepareResult:
    null = selection.null_union
    return PrepareResult(
        method=selection.method,
        num_selected=len(selection.union),
        num_experts=selection.num_experts_total,
        null_union_mean=null.mean if null else None,
    )


def _trained(summary: TrainingSummary) -> TrainingResult:
    return TrainingResult(
        num_selected=summary.total_unique_unsafe_experts,
        num_experts=summary.base.num_experts * len(summary.base.layers),
        num_steps=summary.num_steps,
        final_loss=summary.final_loss,
    )


def _evaluated(summary: EvaluationSummary) -> EvaluationResult:
    rates = (
        (ATTACK_SUCCESS, summary.attack_success),
        (PLAIN_COMPLIANCE, summary.plain_compliance),
        (OVER_REFUSAL, summary.over_refusal),
        ("correct", summary.accuracy),
    )
    measure, rate = next(((name, rate) for name, rate in rates if rate is not None), (None, None))
    return EvaluationResult(measure=measure, rate=rate)


def _compared(comparison: Comparison) -> ComparisonResult:
    """The first pair of trained arms, else the first pair, with its first primary metric."""
    pairs = sorted(comparison.pairs, key=lambda pair: bool({pair.a, pair.b} & comparison.untrained))
    first = pairs[0] if pairs else None
    return ComparisonResult(
        a=first.a if first else None,
        b=first.b if first else None,
        difference=next((each for each in first.differences if each.primary), None) if first else None,
        num_unfair=sum(check.status == "differs" for check in comparison.fairness),
        conclusion=comparison.conclusion,
    )


def _ablated(ablation: Ablation) -> AblationResult:
    return AblationResult(
        num_experts=ablation.selected.num_experts,
        verdict=ablation.verdict,
        p_value=ablation.deciding_p,
        num_controls=len(ablation.controls),
    )


def _swept(sweep: Sweep) -> SweepResult:
    first = sweep.sufficient[0] if sweep.sufficient else None
    return SweepResult(
        num_points=len(sweep.points),
        num_failed=sum(point.state == "failed" for point in sweep.points),
        method=first.method if first else None,
        budget=first.budget if first else None,
        is_tested=bool(first and first.tests),
    )
