"""An evaluation as a person sees it.

Comes in: `EvaluationSummary`. Goes out: rich renderables. Formats, never computes.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moe_cli.records import EvaluationSummary
from moe_cli.views.numbers import estimate_text, rate_text
from moe_cli.views.safe import safe_text


def evaluated_view(summary: EvaluationSummary) -> RenderableType:
    """Rates of every suite, then drift, then who judged."""
    return Group(_suite_table(summary), _drift_table(summary), judge_text(summary))


def judge_text(summary: EvaluationSummary) -> Text:
    """Who gave the verdicts, and how far they can be trusted."""
    judge = summary.judge
    accuracy = judge.published_accuracy
    known = f", accuracy {accuracy[0]:.2f}-{accuracy[1]:.2f} against human labels as published" if accuracy else ""
    test = "; a smoke test, no claim of safety rests on it" if judge.smoke_test else ""
    return safe_text(f"judge: {judge.name}{known}{test}")


def _suite_table(summary: EvaluationSummary) -> Table:
    table = Table(title=safe_text(f"Evaluation: {summary.training_mode}"), title_justify="left")
    table.add_column("suite", overflow="fold")
    table.add_column("measure")
    table.add_column("rate (k/n) [95 %]")
    for suite in summary.suites:
        measures = [
            ("attack success", suite.attack_success),
            ("over-refusal", suite.over_refusal),
            ("correct", suite.accuracy),
            ("degenerate", suite.degenerate if suite.degenerate.k else None),
            ("cut off", suite.cut_off if suite.cut_off.k else None),
        ]
        shown = [(name, rate) for name, rate in measures if rate is not None]
        for place, (name, rate) in enumerate(shown):
            table.add_row(safe_text(suite.suite) if place == 0 else "", name, rate_text(rate))
    table.add_section()
    overall = (
        ("attack success", summary.attack_success),
        ("over-refusal", summary.over_refusal),
        ("correct", summary.accuracy),
        ("degenerate", summary.degenerate),
    )
    for place, (name, total) in enumerate(overall):
        table.add_row("all" if place == 0 else "", name, rate_text(total), style="bold")
    return table


def _drift_table(summary: EvaluationSummary) -> RenderableType:
    drift = summary.drift
    if drift is None:
        return Text(
            "drift: - (a bare model has no base to drift from)" if summary.base is None else "drift: - (no texts)"
        )
    table = Table(title="Drift from the base on held-out benign text", title_justify="left", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("perplexity ratio", estimate_text(drift.perplexity_ratio))
    table.add_row("perplexity base -> tuned", f"{drift.perplexity_base:.3f} -> {drift.perplexity_tuned:.3f}")
    table.add_row("mean KL per token, nats", estimate_text(drift.kl_mean, 4))
    table.add_row("99 % of tokens below", f"{drift.kl_99:.4f} (n {drift.num_tokens} tokens)")
    table.add_row("same most likely token", estimate_text(drift.same_top_share))
    return table
