"""Formats what training a model needs for the terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from moe_cli.records import ArmNeed, RankNeed, ResourcePlan
from moe_cli.views.text import NOTHING, bytes_text, percent_text, safe_text, seconds_text

ONE_PROCESS = "moe train runs in one process; the rows of several processes are arithmetic, not a measurement."


def plan_view(plan: ResourcePlan) -> RenderableType:
    """Parameters, the memory of one process, several processes, and what would make an arm fit."""
    layers = f"{len(plan.layers)} layers of {plan.num_experts} experts"
    top_k = "" if plan.top_k is None else f", {plan.top_k} for each token"
    batch = f"{plan.rows} rows of {plan.length} tokens, {plan.forward_tokens:,} in a forward"
    checkpointing = ", with gradient checkpointing" if plan.checkpointing else ""
    return Group(
        safe_text(f"{plan.model}: {plan.architecture} in {plan.dtype}, {layers}{top_k}"),
        safe_text(f"trained selectively: {plan.selected} experts, by {_selected_by(plan)}"),
        safe_text(f"a batch: {batch}{checkpointing}"),
        _parameters(plan),
        _one_process(plan),
        *(_several_processes(arm) for arm in plan.arms if len(arm.ranks) > 1),
        *(safe_text(line) for line in _notes(plan)),
    )


def _selected_by(plan: ResourcePlan) -> str:
    return {"prepare run": "the prepare run", "experts per layer": "--experts", "budget": "prepare.budget"}[
        plan.selected_by
    ]


def _parameters(plan: ResourcePlan) -> Table:
    table = _table("Parameters", ("kind", "parameters", "share"))
    for kind, count in plan.params.items():
        table.add_row(kind, f"{count:,}", percent_text(count / plan.total_params))
    table.add_row("all", f"{plan.total_params:,}", percent_text(1.0))
    for arm in plan.arms:
        table.add_row(f"trained, {arm.arm}", f"{arm.trained_params:,}", percent_text(arm.trainable_ratio))
    return table


def _one_process(plan: ResourcePlan) -> Table:
    table = _table("Memory of one process", ("", *(arm.arm for arm in plan.arms)))
    steps = [arm.step for arm in plan.arms]
    for name, what in (
        ("frozen weights", "weights"),
        ("masters in float32", "masters"),
        ("gradients", "gradients"),
        ("moments of AdamW", "moments"),
        ("kept by a forward for its backward", "saved"),
        ("peak of a step", "peak"),
    ):
        table.add_row(name, *(NOTHING if step is None else bytes_text(getattr(step, what)) for step in steps))
    saved = [None if step is None else step.saved / plan.forward_tokens / len(plan.layers) for step in steps]
    table.add_row("kept for each token and expert layer", *(bytes_text(size) for size in saved))
    table.add_row(f"fits in {bytes_text(plan.memory)} ({plan.memory_of})", *(_fits(arm.ranks) for arm in plan.arms))
    table.add_row("seconds of a step", *(seconds_text(arm.seconds) for arm in plan.arms))
    return table


def _fits(ranks: Sequence[RankNeed]) -> str:
    return NOTHING if not ranks else "yes" if ranks[0].fits else "no"


def _several_processes(arm: ArmNeed) -> Table:
    table = _table(
        f"Several processes, {arm.arm}", ("processes", "weights", "peak of each", "fits", "sent in a step", "steps")
    )
    for need in arm.ranks:
        if need.ranks > 1:
            steps = NOTHING if need.num_steps is None else f"{need.num_steps:,}"
            peak, sent = bytes_text(need.peak), bytes_text(need.sent)
            table.add_row(str(need.ranks), need.placement, peak, "yes" if need.fits else "no", sent, steps)
    return table


def _notes(plan: ResourcePlan) -> Iterator[str]:
    yield ONE_PROCESS
    yield "peaks: even use of the experts is assumed; the selected rows as they were found lie in the host's memory."
    if plan.num_batches is None:
        yield "steps are not known: name a prepare run with --prepared, or the number of batches with --batches."
    if plan.time_of is not None:
        yield f"seconds: from {plan.time_of}"
    for arm in plan.arms:
        if arm.note is not None:
            yield f"{arm.arm}: {arm.note}; it needs at least {bytes_text(arm.least)}."
        yield from _remedies(arm)


def _remedies(arm: ArmNeed) -> Iterator[str]:
    for remedy in arm.remedies:
        words = " ".join(f"--set {setting}" for setting in remedy.settings)
        yield f"{arm.arm} with {words}: {bytes_text(remedy.peak)}, {'fits' if remedy.fits else 'does not fit'}"


def _table(title: str, head: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index == 0 else "right")
    return table
