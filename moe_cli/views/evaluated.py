"""Formats an evaluation for the terminal. Computes nothing; what was not measured says why."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from moe_cli.data.contamination import BY_WORDS
from moe_cli.records import (
    CapabilityScore,
    Estimate,
    EvaluationSummary,
    GroupDrift,
    LayerDrift,
    PromptDrift,
    RestoredRouter,
    RoutingDrift,
    SuiteSummary,
)
from moe_cli.stats.metrics import harm_metric
from moe_cli.views.judge_tables import agreement_table, judge_texts, unscored_texts
from moe_cli.views.source_tables import file_views, server_lines
from moe_cli.views.table import GROUP, CellRow, ReportTable, as_rich, cell_rows_of, facts_view
from moe_cli.views.text import NOTHING, SMALL, estimate_text, fixed_layers_text, percent_text, rate_text, safe_text

MOST_LAYERS = 16


def drift_views(summary: EvaluationSummary) -> Iterator[RenderableType]:
    """Drift of the text, of the routing, of the routers at harmful prompts, of the weights, with the base's router."""
    if summary.unmeasured is not None:
        return
    if summary.base is None:
        yield Text("drift: - (a bare model has no base to drift from)")
        return
    yield _text_drift(summary)
    if summary.routing_drift is not None:
        yield as_rich(_routing_table(summary.routing_drift))
    yield _prompt_drift(summary)
    if summary.weight_drift is not None:
        yield as_rich(_weight_table(summary.weight_drift))
    if summary.restored_router is not None:
        yield _restored_text(summary.restored_router)


def _text_drift(summary: EvaluationSummary) -> RenderableType:
    drift = summary.drift
    if drift is None:
        return Text("drift on text, routing drift: - (no texts)")
    return facts_view(
        "Drift from the base on held-out benign text",
        (
            ("perplexity ratio", estimate_text(drift.perplexity_ratio)),
            ("perplexity base -> tuned", f"{drift.perplexity_base:.3f} -> {drift.perplexity_tuned:.3f}"),
            ("mean KL per token, nats", estimate_text(drift.kl_mean, SMALL)),
            ("99 % of tokens below", f"{drift.kl_99:{SMALL}} (n {drift.num_tokens} tokens)"),
            ("same most likely token", estimate_text(drift.same_top_share)),
        ),
    )


def _routing_table(drift: RoutingDrift) -> ReportTable:
    selected = f", {drift.num_selected} selected experts" if drift.num_selected is not None else ""
    moved = sorted(drift.layers, key=lambda layer: -layer.js.value)[:MOST_LAYERS]
    on_selected = f"{percent_text(drift.on_selected_base)} -> {percent_text(drift.on_selected_tuned)}"
    mean = ("mean", _thousandths(drift.js), percent_text(drift.overlap.value), on_selected)
    most = f"the {MOST_LAYERS} of {len(drift.layers)} layers that moved most"
    return ReportTable(
        title=f"Routing drift on the same texts (n {drift.num_tokens} tokens{selected})",
        head=("layer", "JS [95 %], 1e-3 nats", "same choices", "on selected", "load entropy"),
        rows=(
            *cell_rows_of(_layer_cells(layer) for layer in sorted(moved, key=lambda layer: layer.layer)),
            CellRow(mean, f"{GROUP} primary"),
        ),
        notes=(
            *((most,) if len(moved) < len(drift.layers) else ()),
            *(() if drift.is_unbiased else ("JS counts noise as drift: evaluated by an earlier moe",)),
        ),
    )


def _layer_cells(layer: LayerDrift) -> tuple[str, ...]:
    return (
        str(layer.layer),
        _thousandths(layer.js),
        percent_text(layer.overlap.value),
        f"{percent_text(layer.on_selected_base)} -> {percent_text(layer.on_selected_tuned)}",
        f"{layer.entropy_base:.3f} -> {layer.entropy_tuned:.3f}",
    )


def _prompt_drift(summary: EvaluationSummary) -> RenderableType:
    drift = summary.prompt_drift
    if drift is None:
        asked = any(suite.kind == "harmful" for suite in summary.suites)
        why = "not measured by the version that evaluated this" if asked else "no harmful prompt"
        return Text(f"router drift at harmful prompts: - ({why})")
    if drift.unread is not None:
        return safe_text(f"router drift at harmful prompts: - ({drift.unread})")
    return as_rich(_prompt_table(drift))


def _prompt_table(drift: PromptDrift) -> ReportTable:
    known = [(layer.layer, layer.kl) for layer in drift.layers if layer.kl is not None]
    moved = sorted(sorted(known, key=lambda layer: -layer[1].value)[:MOST_LAYERS])
    mean = CellRow(("mean", NOTHING if drift.kl is None else _thousandths(drift.kl)), f"{GROUP} primary")
    notes = [f"the {MOST_LAYERS} of {len(known)} layers that moved most"] if len(moved) < len(known) else []
    return ReportTable(
        title=f"Router drift at the last token of harmful prompts (n {drift.num_prompts} prompts)",
        head=("layer", "KL(base || trained) [95 %], 1e-3 nats"),
        rows=(*cell_rows_of((str(layer), _thousandths(kl)) for layer, kl in moved), mean),
        notes=(*notes, *fixed_layers_text(drift)),
    )


def _weight_table(groups: tuple[GroupDrift, ...]) -> ReportTable:
    rows = cell_rows_of(
        (group.group, f"{group.num_changed:,} / {group.num_params:,}", f"{group.relative_l2:.3g}") for group in groups
    )
    return ReportTable("Weight drift", ("parameters", "changed / all", "relative L2"), rows)


def _restored_text(restored: RestoredRouter) -> Text:
    if restored.changed_params == 0:
        return Text("router restoration: router unchanged, so the repair is not in the router")
    return safe_text(
        f"router restoration: with the base's router attack success {rate_text(restored.attack_success)}, as trained "
        f"{rate_text(restored.attack_success_tuned)}; of the {restored.n} answers that were scored both times, "
        f"{restored.only_restored} succeed only with the base's router, {restored.only_tuned} only as trained; "
        f"{restored.clusters_restored} goals have more successes with the base's router, {restored.clusters_tuned} as "
        f"trained; {restored.changed_params:,} values of the router had changed"
    )


def _thousandths(estimate: Estimate) -> str:
    interval = (
        ""
        if estimate.lower is None or estimate.upper is None
        else f" [{1e3 * estimate.lower:.2f}, {1e3 * estimate.upper:.2f}]"
    )
    return f"{1e3 * estimate.value:.2f}{interval}"


def evaluated_view(summary: EvaluationSummary) -> RenderableType:
    """Rates of every suite, capability, drift, the judges, and what an earlier evaluation had."""
    judged = [(summary.name, summary)]
    return Group(
        as_rich(_suite_table(summary)),
        *file_views(summary.answer_files, summary.unanswered),
        *server_lines(summary),
        *_steering(summary),
        *_goals(summary),
        *_capability_views(summary),
        *drift_views(summary),
        *_not_measured(summary),
        *([as_rich(agreement_table(judged, named=False))] if summary.agreement else []),
        *judge_texts(judged),
        *unscored_texts(judged),
        *(safe_text(f"{stage}: taken from the evaluation {name}") for stage, name in summary.taken.items()),
    )


def _suite_table(summary: EvaluationSummary) -> ReportTable:
    several = "" if summary.epochs == 1 else f", {summary.epochs or 'several'} answers to each item"
    what: str = "answers that were made elsewhere" if summary.answer_files else summary.training_mode
    if summary.steering is not None:
        what += f", router {summary.steering.name}"
    rows = [CellRow(cells) for suite in summary.suites for cells in _suite_rows(suite)]
    overall = (
        ("attack success", summary.attack_success),
        *([("plain compliance", summary.plain_compliance)] if summary.plain_compliance else []),
        ("over-refusal", summary.over_refusal),
        ("correct", summary.accuracy),
        ("degenerate", summary.degenerate),
    )
    for place, (name, total) in enumerate(overall):
        style = "primary" if place else f"{GROUP} primary"
        rows.append(CellRow(("" if place else "all", name, rate_text(total)), style))
    head = ("suite", "measure", "rate (k/n) [95 %]")
    return ReportTable(f"Evaluation: {what}{several}", head, tuple(rows), words=True)


def _suite_rows(suite: SuiteSummary) -> Iterator[tuple[str, ...]]:
    """Every measure of a suite, the first with the suite's name."""
    measures = [
        (harm_metric(suite.suite), suite.attack_success),
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
    yield from (("" if place else suite.suite, *cells) for place, cells in enumerate(shown))


def _steering(summary: EvaluationSummary) -> Iterator[RenderableType]:
    if summary.steering is not None:
        yield safe_text(
            f"the router was steered in all of this ({summary.steering.title}); that of the base, in drift, was not"
        )


def _goals(summary: EvaluationSummary) -> Iterator[RenderableType]:
    if summary.goals_trained_on is not None:
        held, evaluated = summary.goals_trained_on
        yield safe_text(f"goals that the run was trained on: {held} of the {evaluated} that are evaluated, {BY_WORDS}")
    elif summary.run is not None:
        yield safe_text("goals that the run was trained on: not known, its prepare run is not registered here")
    elif summary.answer_files:
        yield safe_text("goals that the model was trained on: not known, its answers come without a run")


def _not_measured(summary: EvaluationSummary) -> Iterator[RenderableType]:
    """What was not requested for a trained model, with the option for it; or what answers alone cannot give."""
    if summary.unmeasured is not None:
        yield safe_text(f"capability, drift, routing drift, router restoration: not measured ({summary.unmeasured})")
        return
    missing = []
    if not summary.capability:
        missing.append("capability: not measured (--capability TASK)")
    if summary.restored_router is None and summary.steering is None:
        missing.append("router restoration: not measured (--restore-router)")
    if missing and not summary.is_untrained:
        yield safe_text("; ".join(missing))


def _capability_views(summary: EvaluationSummary) -> Iterator[RenderableType]:
    if not summary.capability:
        return
    head = ("task", "metric", "shots", "score +- stderr", "right (k/n) [95 %]")
    yield as_rich(ReportTable("Capability (lm-eval)", head, cell_rows_of(map(_capability_cells, summary.capability))))


def _capability_cells(score: CapabilityScore) -> tuple[str, ...]:
    error = "" if score.stderr is None else f" +- {score.stderr:.4f}"
    return (
        score.task,
        score.metric,
        str(score.num_fewshot),
        f"{score.score:.4f}{error}",
        rate_text(score.correct),
    )
