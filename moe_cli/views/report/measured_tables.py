"""The tables of the report about single runs. Computes nothing.

What was not measured for a run says "not measured", never 0. A table of something that no run has is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.records import (
    CapabilityScore,
    EvaluationSummary,
    GroupDrift,
    LossCurve,
    PromptDrift,
    RestoredRouter,
    RoutingDrift,
)
from moe_cli.views.judge_tables import NamedRuns
from moe_cli.views.report.drawing import Series
from moe_cli.views.source_tables import origin_text
from moe_cli.views.table import ReportTable, cell_rows_of
from moe_cli.views.text import NOTHING, SMALL, estimate_text, fixed_layers_text, optional_text, percent_text, rate_text

UNKNOWN = "not measured"
NO_RUN = "no run was evaluated here"
LETTERS = 16  # of a digest


def evaluated_runs(series: Sequence[Series], *, trained: bool = False) -> list[tuple[str, EvaluationSummary]]:
    """Every evaluated run with its name, or only trained ones."""
    found = [(column.name, summary) for one in series for column, summary in one.evaluations]
    return [(name, summary) for name, summary in found if not summary.is_untrained or not trained]


def turn_sheet(curves: Sequence[LossCurve]) -> ReportTable | None:
    """The training loss by the turn of the answers; None where every run's answers are of one turn."""
    rows = [
        (
            found.run,
            str(one.turn),
            f"{one.num_rows:,}",
            f"{one.num_answer_tokens:,}",
            optional_text(one.first_loss, 4),
            optional_text(one.final_loss, 4),
        )
        for found in curves
        for one in found.turns
    ]
    if not rows:
        return None
    head = ("run", "answer no.", "rows", "tokens", "loss of the first epoch", "of the last epoch")
    note = "Mean over answer tokens, nats. Answers of different turns are of other rows: a difference is of these, too."
    title = "Loss by the turn of its conversation that the answer is"
    return ReportTable(title, head, cell_rows_of(rows), (note,))


def text_drift_sheet(runs: NamedRuns) -> ReportTable:
    """How far the answers' probabilities moved from the base."""
    head = ("run", "perplexity ratio", "KL per token, nats", "99 % of tokens below", "same most likely token", "tokens")
    rows = [(name, *_text_drift(summary)) for name, summary in runs]
    return ReportTable("What it says: drift on held-out benign text", head, cell_rows_of(rows))


def _text_drift(summary: EvaluationSummary) -> tuple[str, ...]:
    drift = summary.drift
    if drift is None:
        return (UNKNOWN, NOTHING, NOTHING, NOTHING, NOTHING)
    return (
        estimate_text(drift.perplexity_ratio),
        estimate_text(drift.kl_mean, SMALL),
        f"{drift.kl_99:{SMALL}}",
        estimate_text(drift.same_top_share),
        f"{drift.num_tokens:,}",
    )


def routing_sheet(runs: NamedRuns) -> ReportTable:
    """How far the choices of experts moved from the base."""
    head = ("run", "JS, nats", "same choices", "choices on selected experts, mean of layers", "tokens")
    rows = [(name, *_routing(summary.routing_drift)) for name, summary in runs]
    return ReportTable("Where its tokens go: routing drift", head, cell_rows_of(rows))


def _routing(drift: RoutingDrift | None) -> tuple[str, ...]:
    if drift is None:
        return (UNKNOWN, NOTHING, NOTHING, NOTHING)
    on_selected = NOTHING
    if drift.on_selected_base is not None:
        on_selected = f"{percent_text(drift.on_selected_base)} → {percent_text(drift.on_selected_tuned)}"
    shown = (estimate_text(drift.js_without_noise, SMALL), estimate_text(drift.overlap))
    return (*shown, on_selected, f"{drift.num_tokens:,}")


def prompt_sheet(runs: NamedRuns) -> ReportTable:
    """How far the routers' distributions moved at the end of harmful prompts."""
    head = ("run", "KL(base || trained), nats, mean of layers", "the layer that moved most", "prompts")
    rows = [(name, *_at_prompts(summary.prompt_drift)) for name, summary in runs]
    drifts = [summary.prompt_drift for _, summary in runs if summary.prompt_drift]
    notes = [note for drift in drifts for note in ([drift.unread] if drift.unread else fixed_layers_text(drift))]
    title = "Which experts it weighs when asked for harm: router drift at the last token of harmful prompts"
    return ReportTable(title, head, cell_rows_of(rows), tuple(dict.fromkeys(notes)))


def _at_prompts(drift: PromptDrift | None) -> tuple[str, ...]:
    known = [(layer.kl, layer.layer) for layer in drift.layers if layer.kl is not None] if drift else []
    if drift is None or not known:
        return (UNKNOWN, NOTHING, NOTHING)
    most, layer = max(known, key=lambda pair: pair[0].value)
    return (estimate_text(drift.kl, SMALL), f"{layer}: {estimate_text(most, SMALL)}", f"{drift.num_prompts:,}")


def weight_sheet(runs: NamedRuns) -> ReportTable:
    """How far every group of parameters moved, the runs side by side."""
    groups = dict.fromkeys(group.group for _, summary in runs for group in summary.weight_drift or ())
    rows = [(group, *(_weight(summary, group) for _, summary in runs)) for group in groups]
    head = ("parameters: relative L2 (changed / all)", *(name for name, _ in runs))
    return ReportTable("Its weights: drift per group", head, cell_rows_of(rows) if groups else ())


def _weight(summary: EvaluationSummary, group: str) -> str:
    if summary.weight_drift is None:
        return UNKNOWN
    found = next((each for each in summary.weight_drift if each.group == group), None)
    return NOTHING if found is None else _moved(found)


def _moved(group: GroupDrift) -> str:
    changed = f"({group.num_changed:,} / {group.num_params:,})"
    return f"exactly 0 {changed}" if group.num_changed == 0 else f"{group.relative_l2:.3g} {changed}"


def capability_sheet(runs: NamedRuns) -> ReportTable:
    """Every task, the runs side by side."""
    tasks = dict.fromkeys(
        (score.task, score.metric, score.num_fewshot, score.version)
        for _, summary in runs
        for score in summary.capability
    )
    head = ("task", "metric", "shots", *(name for name, _ in runs))
    return ReportTable("Tasks", head, cell_rows_of([_task(task, runs) for task in tasks]))


def _task(task: tuple[str, str, int, str], runs: NamedRuns) -> tuple[str, ...]:
    name, metric, shots, version = task
    cells = []
    for _, summary in runs:
        found = [one for one in summary.capability if (one.task, one.metric, one.num_fewshot, one.version) == task]
        cells.append(_score(found[0]) if found else UNKNOWN)
    return (f"{name} (version {version})", metric, str(shots), *cells)


def _score(score: CapabilityScore) -> str:
    if score.correct is not None:
        return rate_text(score.correct)
    error = "" if score.stderr is None else f" ± {score.stderr:.4f}"
    return f"{score.score:.4f}{error} (n {score.n})"


def restored_sheet(runs: NamedRuns) -> ReportTable:
    """The trained models with the router of their base; empty if no run was evaluated with it."""
    rows = [(name, *_restored(summary.restored_router)) for name, summary in runs]
    asked = any(summary.restored_router for _, summary in runs)
    return ReportTable(
        "Restored router",
        ("run", *RESTORED),
        cell_rows_of(rows) if asked else (),
        (RESTORED_NOTE,) if asked else (),
        empty="not measured; moe evaluate --restore-router does it",
    )


RESTORED = (
    "router values changed",
    "attack success as trained",
    "with the base's router",
    "scored both times",
    "only as trained (goals)",
    "only with the base's router (goals)",
)
RESTORED_NOTE = "In brackets: the goals of which more attacks succeed so than the other way."


def _restored(restored: RestoredRouter | None) -> tuple[str, ...]:
    if restored is None or restored.changed_params == 0:
        return (UNKNOWN if restored is None else "0: router unchanged", *[NOTHING] * (len(RESTORED) - 1))
    return (
        f"{restored.changed_params:,}",
        rate_text(restored.attack_success_tuned),
        rate_text(restored.attack_success),
        str(restored.n),
        f"{restored.only_tuned} ({restored.clusters_tuned})",
        f"{restored.only_restored} ({restored.clusters_restored})",
    )


def generation_sheet(runs: NamedRuns) -> ReportTable:
    """The settings that the answers depend on, the runs side by side."""
    names = dict.fromkeys(name for _, summary in runs for name in summary.generation)
    rows = [(name, *(_setting(summary, name) for _, summary in runs)) for name in names]
    return ReportTable(
        "Settings of the answers",
        ("setting", *(name for name, _ in runs)),
        cell_rows_of(rows),
        words=True,
        empty=NO_RUN,
    )


def _setting(summary: EvaluationSummary, name: str) -> str:
    value = summary.generation.get(name)
    return NOTHING if value is None else str(value)


def model_sheet(runs: NamedRuns) -> ReportTable:
    """The models that answered."""
    head = ("run", "model", "revision", "dtype", "fingerprint of its weights", "of its base's")
    return ReportTable("Models", head, cell_rows_of(_models(runs)), words=True, empty=NO_RUN)


def _models(runs: NamedRuns) -> Iterator[tuple[str, ...]]:
    for name, summary in runs:
        model = summary.model
        base = summary.base.fingerprint[:LETTERS] if summary.base else NOTHING
        if model is None:
            yield name, origin_text(summary), NOTHING, NOTHING, "not known", base
        else:
            yield name, model.name, model.revision or NOTHING, model.dtype, model.fingerprint[:LETTERS], base
