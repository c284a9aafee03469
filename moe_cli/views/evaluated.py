"""An evaluation as a person sees it.

Comes in: `EvaluationSummary`. Goes out: rich renderables. Formats, never computes.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from moe_cli.data.contamination import BY_WORDS
from moe_cli.records import PLAIN_SUITE, EvaluationSummary
from moe_cli.views.answered import file_views, server_lines
from moe_cli.views.drifted import drift_views
from moe_cli.views.judged import agreement_views, judge_texts, unscored_texts
from moe_cli.views.numbers import NOTHING, rate_text
from moe_cli.views.safe import safe_text


def evaluated_view(summary: EvaluationSummary) -> RenderableType:
    """Rates of every suite, capability, drift, then who judged and what an earlier evaluation had."""
    judged = [(summary.name, summary)]
    return Group(
        _suite_table(summary),
        *file_views(summary.answer_files, summary.unanswered),
        *server_lines(summary),
        *_goals(summary),
        *_capability_views(summary),
        *drift_views(summary),
        *_not_measured(summary),
        *agreement_views(judged),
        *judge_texts(judged),
        *unscored_texts(judged),
        *(safe_text(f"{stage}: taken from the evaluation {name}") for stage, name in summary.taken.items()),
    )


def _suite_table(summary: EvaluationSummary) -> Table:
    several = "" if summary.epochs == 1 else f", {summary.epochs or 'several'} answers to each item"
    what = "answers that were made elsewhere" if summary.answer_files else summary.training_mode
    table = Table(title=safe_text(f"Evaluation: {what}{several}"), title_justify="left")
    table.add_column("suite", overflow="fold")
    table.add_column("measure")
    table.add_column("rate (k/n) [95 %]")
    for suite in summary.suites:
        measures = [
            ("plain compliance" if suite.suite == PLAIN_SUITE else "attack success", suite.attack_success),
            ("full refusal", suite.full_refusal if suite.kind == "harmful" else None),
            ("over-refusal", suite.over_refusal),
            ("partial refusal", suite.partial_refusal if suite.partial_refusal and suite.partial_refusal.k else None),
            ("correct", suite.accuracy),
            ("degenerate", suite.degenerate if suite.degenerate.k else None),
            ("cut off", suite.cut_off if suite.cut_off.k or suite.cut_off.unscored else None),
        ]
        shown = [(name, rate_text(rate)) for name, rate in measures if rate is not None]
        length = suite.mean_answer_tokens
        shown.append(("answer length", NOTHING if length is None else f"{length:.1f} tokens (mean of {suite.n})"))
        for place, (name, text) in enumerate(shown):
            table.add_row(safe_text(suite.suite) if place == 0 else "", name, text)
    table.add_section()
    overall = (
        ("attack success", summary.attack_success),
        *([("plain compliance", summary.plain_compliance)] if summary.plain_compliance else []),
        ("over-refusal", summary.over_refusal),
        ("correct", summary.accuracy),
        ("degenerate", summary.degenerate),
    )
    for place, (name, total) in enumerate(overall):
        table.add_row("all" if place == 0 else "", name, rate_text(total), style="bold")
    return table


def _goals(summary: EvaluationSummary) -> Iterator[RenderableType]:
    if summary.goals_trained_on is not None:
        held, evaluated = summary.goals_trained_on
        yield safe_text(f"goals that the run was trained on: {held} of the {evaluated} that are evaluated, {BY_WORDS}")
    elif summary.run is not None:
        yield safe_text("goals that the run was trained on: not known, its prepare run is not registered here")
    elif summary.answer_files:
        yield safe_text("goals that the model was trained on: not known, its answers come without a run")


def _not_measured(summary: EvaluationSummary) -> Iterator[RenderableType]:
    """What nobody asked for of a trained model, and how to ask for it; what cannot be asked of answers alone."""
    if summary.unmeasured is not None:
        yield safe_text(f"capability, drift, routing drift, router restoration: not measured ({summary.unmeasured})")
        return
    missing = []
    if not summary.capability:
        missing.append("capability: not measured (--capability TASK)")
    if summary.restored_router is None:
        missing.append("router restoration: not measured (--restore-router)")
    if missing and summary.training_mode != "base":
        yield safe_text("; ".join(missing))


def _capability_views(summary: EvaluationSummary) -> Iterator[RenderableType]:
    if not summary.capability:
        return
    table = Table(title="Capability (lm-eval)", title_justify="left")
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    table.add_column("shots", justify="right")
    table.add_column("score +- stderr")
    table.add_column("right (k/n) [95 %]")
    for found in summary.capability:
        error = "" if found.stderr is None else f" +- {found.stderr:.4f}"
        table.add_row(
            safe_text(found.task),
            safe_text(found.metric),
            str(found.num_fewshot),
            f"{found.score:.4f}{error}",
            rate_text(found.correct),
        )
    yield table
