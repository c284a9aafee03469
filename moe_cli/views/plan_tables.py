"""Formats what training a model needs for the terminal. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType

from moe_cli.records import ArmNeed, RankNeed, ResourcePlan
from moe_cli.records.resource_plan import each_holds_experts
from moe_cli.views.table import ReportTable, as_rich, cell_rows_of
from moe_cli.views.text import NOTHING, bytes_text, percent_text, safe_text, seconds_text

PARTS = {  # of `StepMemory`
    "weights": "frozen weights",
    "masters": "masters in float32",
    "gradients": "gradients",
    "moments": "moments of AdamW",
    "saved": "kept by a forward for its backward",
    "saved_by_loss": "of it for the logits of the answers",
    "peak": "peak of a step",
}
SEVERAL = "The rows of several processes (moe train --nproc N --placement ...) are arithmetic, not a measurement."
IN_TURN = "alternating: of a step of experts and one of routers the larger figure; its weights are never sharded."
JOINT = "alternating: a step trains experts and routers by one loss; its weights are never sharded."


def resource_plan_view(plan: ResourcePlan) -> RenderableType:
    """Parameters, the memory of one process, several processes, and what would make an arm fit."""
    layers = f"{len(plan.layers)} layers of {plan.num_experts} experts"
    top_k = "" if plan.top_k is None else f", {plan.top_k} for each token"
    batch = f"{plan.rows} rows of {plan.length} tokens, {plan.forward_tokens:,} in a forward"
    checkpointing = ", with gradient checkpointing" if plan.checkpointing else ""
    return Group(
        safe_text(f"{plan.model}: {plan.architecture} in {plan.dtype}, {layers}{top_k}"),
        safe_text(f"trained selectively: {plan.selected} experts, by {_selected_by(plan)}"),
        safe_text(f"a batch: {batch}{checkpointing}"),
        as_rich(_parameters(plan)),
        as_rich(_one_process(plan)),
        *(as_rich(_several_processes(arm)) for arm in plan.arms if len(arm.ranks) > 1),
        *(safe_text(line) for line in _notes(plan)),
    )


def _selected_by(plan: ResourcePlan) -> str:
    return {"prepare run": "the prepare run", "experts per layer": "--experts", "budget": "prepare.budget"}[
        plan.selected_by
    ]


def _parameters(plan: ResourcePlan) -> ReportTable:
    kinds = ((kind, f"{count:,}", percent_text(count / plan.total_params)) for kind, count in plan.params.items())
    trained = (
        (f"trained, {arm.arm}", f"{arm.trained_params:,}", percent_text(arm.trainable_ratio)) for arm in plan.arms
    )
    total = ("all", f"{plan.total_params:,}", percent_text(1.0))
    return ReportTable("Parameters", ("kind", "parameters", "share"), cell_rows_of((*kinds, total, *trained)))


def _one_process(plan: ResourcePlan) -> ReportTable:
    steps = [arm.step for arm in plan.arms]
    parts = (
        (name, *(NOTHING if step is None else bytes_text(getattr(step, part)) for step in steps))
        for part, name in PARTS.items()
    )
    places = plan.forward_tokens * len(plan.layers)
    of_layers = [None if step is None else (step.saved - step.saved_by_loss) / places for step in steps]
    rows = (
        *parts,
        ("kept for each token and expert layer, without the logits", *(bytes_text(size) for size in of_layers)),
        (f"fits in {bytes_text(plan.memory)} ({plan.memory_of})", *(_fits(arm.ranks) for arm in plan.arms)),
        ("targets of a phase, in the host's memory", *(bytes_text(arm.targets) for arm in plan.arms)),
        ("seconds of a step", *(seconds_text(arm.seconds) for arm in plan.arms)),
    )
    return ReportTable("Memory of one process", ("", *(arm.arm for arm in plan.arms)), cell_rows_of(rows))


def _fits(ranks: Sequence[RankNeed]) -> str:
    return NOTHING if not ranks else "yes" if ranks[0].fits else "no"


def _several_processes(arm: ArmNeed) -> ReportTable:
    rows = (
        (
            str(need.ranks),
            need.placement,
            bytes_text(need.peak),
            "yes" if need.fits else "no",
            bytes_text(need.sent),
            NOTHING if need.num_steps is None else f"{need.num_steps:,}",
        )
        for need in arm.ranks
        if need.ranks > 1
    )
    head = ("processes", "weights", "peak of each", "fits", "sent in a step", "steps")
    return ReportTable(f"Several processes, {arm.arm}", head, cell_rows_of(rows))


def _notes(plan: ResourcePlan) -> Iterator[str]:
    yield SEVERAL
    yield "peaks: even use of the experts is assumed; the selected rows as they were found lie in the host's memory."
    for ranks in sorted({need.ranks for arm in plan.arms for need in arm.ranks if need.placement == "sharded"}):
        if not each_holds_experts(plan.num_experts, ranks):
            yield f"sharded in {ranks} processes one would hold none of {plan.num_experts} experts: mostly refused."
    if plan.num_batches is None:
        yield "steps are not known: name a prepare run with --prepared, or the number of batches with --batches."
    if plan.time_of is not None:
        yield f"seconds: from {plan.time_of}"
    for arm in plan.arms:
        if arm.arm == "alternating" and arm.step is not None:
            yield JOINT if arm.joint else IN_TURN
    for arm in plan.arms:
        if arm.note is not None:
            yield f"{arm.arm}: {arm.note}; it needs at least {bytes_text(arm.least)}."
        yield from _remedies(arm)


def _remedies(arm: ArmNeed) -> Iterator[str]:
    for remedy in arm.remedies:
        words = " ".join(f"--set {setting}" for setting in remedy.settings)
        where = f" in {remedy.ranks} processes" if remedy.ranks > 1 else ""
        yield f"{arm.arm} with {words}{where}: {bytes_text(remedy.peak)}, {'fits' if remedy.fits else 'does not fit'}"
