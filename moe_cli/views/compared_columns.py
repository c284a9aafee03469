"""The arms of a comparison side by side: what each trained, what that cost, and every overall measure.

A row is shown only if some run measured it; `compared_cells.py` makes its cells. What did not change at all is said in
words, so that it is never a rounded 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from moe_cli.data.contamination import BY_WORDS
from moe_cli.records import (
    Comparison,
    EvaluationSummary,
    GroupDrift,
    RestoredRouter,
    RunColumn,
)
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS, DEGENERATE, OVER_REFUSAL, PLAIN_COMPLIANCE
from moe_cli.views.compared_cells import Rows, Runs, drift_cell, of_all, of_each, rate_cell
from moe_cli.views.table import GROUP, CellRow, NarrowColumn, ReportTable
from moe_cli.views.text import (
    NOTHING,
    SMALL,
    bytes_text,
    count_of,
    optional_text,
    percent_text,
    rate_text,
    seconds_text,
)

UNCHANGED = "unchanged"
TITLES = {ACCURACY: "correct"}  # of a metric whose row has another name
SEVERAL_RUNS = (
    "A rate of several runs is their mean, with the count of each run; the interval of a difference stands in the table"
    " of differences."
)
AS_JUDGED = "These rates are the judge's; those that labels correct stand in the table of differences."


def drift_rows(comparison: Comparison) -> Rows:
    """Titles and texts of the rows about drift."""
    found = [column.evaluation for column in comparison.columns if column.evaluation]
    tasks = dict.fromkeys(score.task for summary in found for score in summary.capability)
    groups = dict.fromkeys(group.group for summary in found for group in summary.weight_drift or ())
    return (
        *((task, of_all(_score(task), lambda score: f"{score:.4f}")) for task in tasks),
        *(ROUTING_ROWS if any(summary.routing_drift for summary in found) else ()),
        *(PROMPT_ROWS if any(summary.prompt_drift for summary in found) else ()),
        *((f"weights: {group}", _weights(group)) for group in groups),
        *(RESTORED_ROWS if any(summary.restored_router for summary in found) else ()),
    )


def _score(task: str) -> Callable[[RunColumn], float | None]:
    def score(column: RunColumn) -> float | None:
        scores = column.evaluation.capability if column.evaluation else ()
        return next((record.score for record in scores if record.task == task), None)

    return score


def _weights(name: str) -> Callable[[Runs], str]:
    def relative(column: RunColumn) -> float | None:
        group = _group(column, name)
        return group.relative_l2 if group else None

    moved = of_all(relative, lambda value: f"{value:.3g}")

    def text(runs: Runs) -> str:
        groups = [_group(column, name) for column in runs]
        unchanged = [group is not None and group.num_changed == 0 for group in groups]
        return UNCHANGED if unchanged and all(unchanged) else moved(runs)

    return text


def _group(column: RunColumn, name: str) -> GroupDrift | None:
    groups = (column.evaluation.weight_drift if column.evaluation else None) or ()
    return next((group for group in groups if group.group == name), None)


def _restored(column: RunColumn) -> str:
    restored = _router(column)
    if restored is not None and restored.changed_params == 0:
        return "router unchanged"
    return rate_text(restored.attack_success) if restored else NOTHING


def _changed_goals(column: RunColumn) -> str:
    """Goals with more, and with fewer, successful attacks under the base's router, and the answers behind them."""
    restored = _router(column)
    if restored is None or restored.changed_params == 0:
        return NOTHING
    return f"{restored.clusters_restored}, {restored.clusters_tuned} (n {restored.n})"


def _router(column: RunColumn) -> RestoredRouter | None:
    return column.evaluation.restored_router if column.evaluation else None


def _evaluated(value: Callable[[EvaluationSummary], float | None]) -> Callable[[RunColumn], float | None]:
    return lambda column: value(column.evaluation) if column.evaluation else None


def _js(summary: EvaluationSummary) -> float | None:
    js = summary.routing_drift.js_without_noise if summary.routing_drift else None
    return 1e3 * js.value if js is not None else None


def _overlap(summary: EvaluationSummary) -> float | None:
    return summary.routing_drift.overlap.value if summary.routing_drift else None


def _at_prompts(summary: EvaluationSummary) -> float | None:
    kl = summary.prompt_drift.kl if summary.prompt_drift else None
    return 1e3 * kl.value if kl else None


ROUTING_ROWS: Rows = (
    ("routing drift JS", of_all(_evaluated(_js), "{:.3f}e-3 nats".format)),
    ("same expert choices", of_all(_evaluated(_overlap), percent_text)),
)

PROMPT_ROWS: Rows = (("router KL, harmful", of_all(_evaluated(_at_prompts), "{:.3f}e-3 nats".format)),)

RESTORED_ROWS: Rows = (
    ("ASR, base router", of_each(_restored)),
    ("  goals more, fewer", of_each(_changed_goals)),
)


def side_by_side(comparison: Comparison) -> ReportTable:
    """What each arm trained, what it cost, and every overall measure."""
    names = [arm.name if len(arm.runs) == 1 else f"{arm.name} ({len(arm.runs)} runs)" for arm in comparison.arms]
    head = ("", *names)
    rows = tuple(
        CellRow((title, *(text(runs) for runs in comparison.arm_columns)), "" if place else GROUP)
        for group in row_groups(comparison)
        for place, (title, text) in enumerate(group)
    )
    narrow = tuple(map(NarrowColumn, head))
    return ReportTable("Side by side", head, rows, tuple(_notes(comparison)), empty="nothing to show", narrow=narrow)


def _notes(comparison: Comparison) -> Iterator[str]:
    several = [arm for arm in comparison.arms if len(arm.runs) > 1]
    for arm in several:
        yield f"{arm.name}: {', '.join(arm.runs)}."
    if several:
        yield SEVERAL_RUNS
    if comparison.labels:
        yield AS_JUDGED


def row_groups(comparison: Comparison) -> tuple[Rows, ...]:
    """Titles and texts of all rows; outcomes that were made elsewhere have one measure and no cost."""
    imported = {column.imported.metric if column.imported else None for column in comparison.columns}
    if None in imported:
        first, *others = MEASURE_ROWS
        evaluations = [column.evaluation for column in comparison.columns if column.evaluation]
        plain = (PLAIN_ROW,) if any(summary.plain_compliance for summary in evaluations) else ()
        mode, *costs = COST_ROWS
        selections = {text for column in comparison.columns if (text := _selection(column)) != NOTHING}
        chosen = (SELECTION_ROW,) if len(selections) > 1 else ()
        routers = (ROUTER_ROW,) if any(column.routers for column in comparison.columns) else ()
        measures = (*_evaluation_rows(comparison), first, *plain, *others)
        return (mode, *chosen, *costs, *routers), measures, drift_rows(comparison)
    return (tuple(row for row in MEASURE_ROWS if row[0] in {TITLES.get(str(name), name) for name in imported}),)


def _evaluation_rows(comparison: Comparison) -> Rows:
    """Which evaluation each run has, how often items were answered, and how many of them were trained on."""
    found = [column.evaluation for column in comparison.columns if column.evaluation]
    name = ("evaluation", of_each(lambda column: column.evaluation.name if column.evaluation else NOTHING))
    epochs = (
        "answers per item",
        of_each(lambda column: str((column.evaluation and column.evaluation.epochs) or NOTHING)),
    )
    return (
        *((name,) if found else ()),
        *((epochs,) if any(summary.epochs != 1 for summary in found) else ()),
        *((("goals trained on", of_each(_goals)),) if any(c.goals_trained_on for c in comparison.columns) else ()),
    )


def _goals(column: RunColumn) -> str:
    held = column.goals_trained_on
    return NOTHING if held is None else f"{held[0]} of {held[1]} {BY_WORDS}"


def _selection(column: RunColumn) -> str:
    """How its experts were selected, and whether batches updated all of them."""
    masking = "masking none" if column.masking == "none" else None
    return ", ".join(filter(None, [column.selection, masking])) or NOTHING


def _unfrozen(column: RunColumn) -> str:
    experts, num = column.experts_per_layer, column.num_experts
    return NOTHING if experts is None or num is None else count_of(sum(experts), num * len(column.layers))


def _per_layer(column: RunColumn) -> str:
    return NOTHING if column.experts_per_layer is None else " ".join(map(str, column.experts_per_layer))


def _final_step(column: RunColumn) -> str:
    if column.routers is not None and column.routers.alone:
        return "no step on the answers"
    return NOTHING if column.final_step is None else f"step {column.final_step} of {column.num_steps}"


def _router_training(column: RunColumn) -> str:
    if (routers := column.routers) is None:
        return NOTHING
    final = column.final_router_step
    kept = "" if final == routers.num_steps else f", step {final} in the final model"
    if routers.joint:
        spent = f"{routers.learning_rate:g}, weight {routers.joint_weight:g}, {column.num_router_tokens:,} more tokens"
        return f"in the experts' {routers.num_steps} steps at {spent}{kept}"
    spent = f"forwards over {column.num_router_tokens:,} tokens{kept}"
    return f"{routers.num_steps} steps at {routers.learning_rate:g}, {spent}"


SELECTION_ROW = ("  selection", of_each(_selection))
COST_ROWS: Rows = (
    ("mode", of_each(lambda column: column.training_mode.replace("_", " "))),
    ("unfrozen experts", of_each(_unfrozen)),
    ("  per layer", of_each(_per_layer)),
    ("trainable params", of_all(lambda column: column.trainable_params, lambda number: f"{number:,.0f}")),
    ("trainable ratio", of_all(lambda column: column.trainable_ratio, lambda ratio: f"{ratio:.6f}")),
    ("training time", of_all(lambda column: column.seconds_training, seconds_text)),
    ("peak memory", of_all(lambda column: column.peak_memory_bytes, bytes_text)),
    ("final_model/", of_all(lambda column: column.final_model_bytes, bytes_text)),
    ("expert_delta", of_all(lambda column: column.delta_bytes, bytes_text)),
    (
        "last epoch's loss",
        of_all(lambda column: column.final_loss, lambda loss: f"{optional_text(loss, 4)} (training)"),
    ),
    ("final model", of_each(_final_step)),
    ("  held-out loss", of_all(lambda column: column.held_out_loss, lambda loss: optional_text(loss, 4))),
)

ROUTER_ROW = ("router training", of_each(_router_training))

PLAIN_ROW = ("plain compliance", rate_cell(lambda summary: summary.plain_compliance, PLAIN_COMPLIANCE))

MEASURE_ROWS: Rows = (
    ("attack success", rate_cell(lambda summary: summary.attack_success, ATTACK_SUCCESS)),
    ("over-refusal", rate_cell(lambda summary: summary.over_refusal, OVER_REFUSAL)),
    ("correct", rate_cell(lambda summary: summary.accuracy, ACCURACY)),
    ("degenerate", rate_cell(lambda summary: summary.degenerate, DEGENERATE)),
    ("perplexity ratio", drift_cell(lambda summary: summary.drift.perplexity_ratio if summary.drift else None)),
    ("KL per token", drift_cell(lambda summary: summary.drift.kl_mean if summary.drift else None, SMALL)),
)
