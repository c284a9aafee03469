"""Formats a training run for the terminal, before the first step and when it is done. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from moe_cli.records import TrainableCount, TrainingPlan, TrainingSummary, TurnTraining
from moe_cli.records.training import BATCHES_PER_STEP, STORED_TARGETS, PhaseRecord, RouterTraining
from moe_cli.views.table import GROUP, CellRow, ReportTable, as_rich, cell_rows_of, facts_view
from moe_cli.views.text import bytes_text, count_of, optional_text, safe_text, seconds_text, trainable_text

HEADLINES = {
    "selective": "SELECTIVE EXPERT training",
    "alternating": "ALTERNATING training of selected experts and routers",
    "baseline": "BASELINE EXPERIMENT: Training ALL model parameters",
}
ROUTERS_ALONE = "ALTERNATING training without its experts: the routers alone"
JOINT = "JOINT training of selected experts and routers, by one loss"


def plan_view(plan: TrainingPlan) -> RenderableType:
    """What is about to be trained, with the table of unfrozen experts."""
    lines: list[RenderableType] = [
        Text(_headline(plan), style="bold"),
        as_rich(_unfrozen_table(plan.count, plan.base.layers)),
    ]
    if plan.union_size is not None:
        noise = (
            f"; the same rule selects {optional_text(plan.null_union_mean, 1)} from noise"
            if plan.null_union_mean is not None
            else ""
        )
        lines.append(Text(f"union of all batches: {plan.union_size} experts{noise}; masking: {plan.masking}"))
    settings = plan.hyperparameters
    lines += [
        Text(trainable_text(plan.count)),
        *_answer_lines(plan),
        *_router_lines(plan),
        safe_text(f"batches of {plan.prepared} -> {plan.output}"),
    ]
    if settings.get("validation_batches"):
        held_out = f"{settings['validation_batches']} more batches are held out"
        lines.append(Text(f"{held_out}: the final model is the checkpoint with the lowest loss on them"))
    if plan.first_step > plan.num_steps:
        lines.append(Text("resumed: every step is done"))
    elif plan.first_step > 1:
        lines.append(Text(f"resumed: continues with step {plan.first_step}"))
    return Group(*lines)


def _headline(plan: TrainingPlan) -> str:
    if plan.arm == "alternating" and plan.routers is not None and plan.routers.joint:
        return JOINT
    return ROUTERS_ALONE if _is_of_routers(plan) else HEADLINES[plan.arm]


def _is_of_routers(plan: TrainingPlan) -> bool:
    return plan.routers is not None and plan.routers.alone


def _answer_lines(plan: TrainingPlan) -> Iterator[Text]:
    """The steps on the answers, where there are any."""
    if _is_of_routers(plan):
        return
    settings = plan.hyperparameters
    num_steps = plan.num_steps - (plan.routers.num_own_steps if plan.routers else 0)
    yield Text(
        f"{plan.num_batches} batches x {settings['num_epochs']} epochs / {settings[BATCHES_PER_STEP]}"
        f"{_processes(plan)} => {num_steps} steps at learning rate {settings['learning_rate']}, "
        f"warm-up {settings['warmup_steps']} steps"
    )


def _processes(plan: TrainingPlan) -> str:
    return f" in {plan.num_ranks} processes" if plan.num_ranks > 1 else ""


def _unfrozen_table(count: TrainableCount, layers: tuple[int, ...]) -> ReportTable:
    """Unfrozen experts per layer and in total."""
    of_layers = zip(layers, count.experts_per_layer, strict=True)
    rows = cell_rows_of((str(layer), count_of(unfrozen, count.num_experts)) for layer, unfrozen in of_layers)
    total = count_of(sum(count.experts_per_layer), count.num_experts * len(layers))
    return ReportTable("Unfrozen experts", ("layer", "unfrozen"), (*rows, CellRow(("all", total), f"{GROUP} primary")))


def trained_view(summary: TrainingSummary) -> RenderableType:
    """What was trained, what it cost, and the proof of which tensors trained."""
    proof = summary.proof
    rows = [
        ("trainable parameters", f"{summary.trainable_params:,} of {summary.total_params:,}"),
        ("trainable ratio", f"{summary.trainable_ratio:.6f}"),
        ("steps", f"{summary.num_steps}" + (" on the answers" if summary.routers else "")),
        ("loss in the last epoch", optional_text(summary.final_loss, 4)),
        *_losses_by_turn(summary),
        *_held_out_loss(summary),
        ("tokens", f"{summary.num_tokens:,} ({summary.num_padded_tokens:,} computed, padding counted)"),
        *_router_rows(summary),
        ("training time", seconds_text(summary.seconds_training)),
        ("peak memory", f"{bytes_text(summary.peak_memory_bytes)}, {summary.peak_memory_of}"),
        *_sent(summary),
        (
            "proof before the first step",
            f"{proof.requested} tensors asked for, {proof.in_optimizer} in the optimizer, "
            f"{proof.with_gradient} with a gradient",
        ),
    ]
    if proof.num_moved is not None:
        rows.append(("proof after the last step", f"{proof.num_moved} of {proof.num_parameters} tensors changed"))
    elif proof.frozen_digest_after is not None:
        rows.append(("proof after the last step", f"everything outside {_what_trained(summary)} is byte-identical"))
    return facts_view(f"Trained: {summary.training_mode}", rows)


def _what_trained(summary: TrainingSummary) -> str:
    if summary.routers is None:
        return "the selection"
    return "the routers" if summary.routers.alone else "the selection and the routers"


def _of_epochs(turn: TurnTraining) -> str:
    if turn.first_loss is None:
        return f"{turn.final_loss:.4f}, the only epoch"
    return f"{turn.first_loss:.4f} -> {turn.final_loss:.4f}, first and last epoch"


def _losses_by_turn(summary: TrainingSummary) -> list[tuple[str, str]]:
    """How the loss fell by the turn of the answers, where they are of several."""
    return [
        (
            f"  answer no. {one.turn}",
            f"{_of_epochs(one)}; {one.num_rows:,} rows, {one.num_answer_tokens:,} tokens",
        )
        for one in summary.turns
    ]


def _router_rows(summary: TrainingSummary) -> list[tuple[str, str]]:
    """What the routers' phases did to the divergence that they train."""
    if (routers := summary.routers) is None:
        return []
    anew = [phase for phase in summary.phases if phase.selected is not None]
    in_all = f", {summary.total_unique_unsafe_experts} experts in all rounds" if anew else ""
    seen = f"forwards over {summary.num_router_tokens:,} tokens, {routers.num_pairs} pairs{in_all}"
    rows = [("routers", f"{routers.num_steps} steps, {seen}")]
    rows += [("  in the experts' steps", _joint_loss(routers))] if routers.joint else []
    rows += [("  experts selected anew", "; ".join(map(_selected_anew, anew)))] if anew else []
    if summary.final_router_step < routers.num_steps:
        rows.append(("  in the final model", f"{summary.final_router_step} of these steps"))
    in_model = [phase for phase in summary.phases if phase.last_step <= summary.final_step]
    if fell := _divergences(in_model):
        rows.append(("  attacked from plain", f"KL {fell} nats, round by round"))
    if routers.target in STORED_TARGETS and (fell := _divergences(in_model, of_target=True)):
        rows.append(("  attacked from target", f"KL {fell} nats; plain goals move along"))
    if fell := _divergences(summary.phases[len(in_model) :]):
        rows.append(("  not in the final model", f"KL {fell} nats, in phases that end after its step"))
    return rows


def _joint_loss(routers: RouterTraining) -> str:
    return f"one loss: cross-entropy + {routers.joint_weight:g} x consistency"


def _selected_anew(phase: PhaseRecord) -> str:
    pairs = "" if phase.num_selecting_pairs is None else f", {phase.num_selecting_pairs} pairs"
    num_experts = len({expert for batch in phase.selected or () for expert in batch})
    left_out = f", without {phase.num_left_out} for which the budget has no room" if phase.num_left_out else ""
    return f"round {phase.round} by {phase.selected_by or 'replay'}{pairs}: {num_experts} experts{left_out}"


def _divergences(phases: Sequence[PhaseRecord], *, of_target: bool = False) -> str:
    """How far attacked goals are routed from plain ones, or from the target, before and after each router phase."""
    both = [
        (phase.consistency_before, phase.consistency_after)
        if of_target
        else (phase.divergence_before, phase.divergence_after)
        for phase in phases
    ]
    return "; ".join(f"{before:.4f} -> {after:.4f}" for before, after in both if None not in (before, after))


def _router_lines(plan: TrainingPlan) -> Iterator[Text]:
    """What the routers are trained to."""
    if (routers := plan.routers) is None:
        if plan.arm == "alternating":
            yield Text("the routers stay locked: this is the selective arm")
        return
    of_experts = "" if routers.alone else f"{routers.expert_epochs_per_round} epochs of the experts and "
    epochs = " epochs" if routers.alone else ""
    of_round = f"{of_experts}{routers.router_epochs_per_round}{epochs} of the routers"
    if routers.joint:
        yield Text(f"each step trains experts and routers by {_joint_loss(routers)}")
        of_round = f"{routers.expert_epochs_per_round} epochs of both, the routers"
    yield Text(
        f"{routers.num_rounds} rounds of {of_round} of {len(routers.layers)} layers, at learning rate "
        f"{routers.learning_rate:g}, warm-up {routers.warmup_steps} steps"
    )
    yield Text(
        f"{routers.num_pairs} pairs, {routers.divergence} KL at {routers.region.replace('_', ' ')} over "
        f"{routers.over}, target {routers.target}; a weight moves at most about {routers.largest_move:.2g}, "
        f"the median weight is {routers.median_weight:.2g}"
    )


def _sent(summary: TrainingSummary) -> list[tuple[str, str]]:
    if summary.num_ranks == 1:
        return []
    sent = f"; gradients of {bytes_text(summary.gradient_bytes)} added up" if summary.gradient_bytes else ""
    return [("processes", f"{summary.num_ranks}{sent}")]


def _held_out_loss(summary: TrainingSummary) -> list[tuple[str, str]]:
    lowest = f"the lowest of {len(summary.validation)}; the final model is from there"
    return [
        ("loss on held-out batches", f"{found.loss:.4f} after step {found.step}, {lowest}")
        for found in summary.validation
        if found.step == summary.final_step
    ]
