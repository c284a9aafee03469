"""`moe train selective | baseline | alternating`: arms on the same batches.

All arms see the same batches in the same order with the same loss and settings. The summary holds the proofs that
exactly what was asked for was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from moe_cli.artifacts import RunWriter, ScratchFiles, Store, layout, open_run
from moe_cli.artifacts.files import atomic_directory, atomic_file, write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.codec import encode
from moe_cli.config import MoeConfig
from moe_cli.errors import UsageError
from moe_cli.experts import save_delta
from moe_cli.model.directory import base_directory, license_of
from moe_cli.model.final_model import refuse_unopened_not_finite, write_final_model
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.model.same_machine import require_same_directory, require_same_model, require_same_setup
from moe_cli.model.sharding import has_shares
from moe_cli.model.tensors import weights_fingerprint
from moe_cli.ranks import is_first, led, num_ranks, on_first
from moe_cli.records import Arm, CardFacts, Expert, Notice, PrepareSummary, TrainingPlan, TrainingSummary
from moe_cli.records.manifest import Notify
from moe_cli.records.training import OF_EXPERTS, RouterTraining
from moe_cli.train.alternating_plan import (
    ReselectExperts,
    alternating_task,
    reselecting,
    router_layers,
    router_training,
    with_rounds,
    with_selections,
)
from moe_cli.train.arguments import (
    batches_per_step,
    hyperparameters,
    num_steps,
    refuse_environment,
    refuse_missing_trackers,
)
from moe_cli.train.arm_setup import (
    ArmSetup,
    alternating_arm,
    baseline_arm,
    refuse_too_large,
    selective_arm,
)
from moe_cli.train.checkpoint import CHECKPOINTS, drop_checkpoints, newest_checkpoint, read_state
from moe_cli.train.dataset import FixedBatches, encode_batches, schedule_digest
from moe_cli.train.fitting import FitResult, FitTask, fit_arm
from moe_cli.train.prepared_run import PreparedRun, output_directory, params_of_union, prepared_run
from moe_cli.train.training_summary import training_summary
from moe_cli.version import __version__

SCRATCH = ScratchFiles(names=CHECKPOINTS, clear=drop_checkpoints)


@dataclass(frozen=True, slots=True)
class TrainOutput:
    """Result of `moe train`."""

    path: Path
    summary: TrainingSummary


def run(
    arm: Arm,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    resume: bool = False,
    card: Callable[[CardFacts], str] | None = None,
    reselect: ReselectExperts | None = None,
) -> TrainOutput:
    """Train one arm; `card` renders the page of the final model, `reselect` selects experts anew between rounds.

    Raises:
        ArtifactError: no prepare run of this model, or the output directory is taken.
        UsageError: nothing is selected, or more than the budget; a tracker is unknown.
        EnvironmentFaultError: no such device, or one that is too small; a tracker is not installed.
        StoppedError: asked to stop; `--resume` goes on.

    Several processes (`moe_cli.ranks`) call it at once: the first opens the run and writes all of it.
    """
    require_same_setup(f"train {arm}", config)
    on_first(store.refuse_unwritable)
    refuse_missing_trackers(config.train.report_to)
    refuse_environment()
    output = on_first(lambda: output_directory(config, arm, notify))
    run = open_run(output, arm, config, resume=resume, scratch=SCRATCH)
    config = with_rounds(config) if arm == "alternating" else config
    with led(run) as writer, resumable(output, CHECKPOINTS):
        require_same_directory(writer)
        trains_experts = arm != "alternating" or not config.alternating.skip_expert_training
        if (named := config.train.prepared) is not None:  # refuses before the long work
            on_first(lambda: require_unchanged_run(named, store, "prepare"))
        refuse_too_large(arm, config, params_of_union(named) if trains_experts else 0)
        loaded = load_model(config.model, sharded=config.train.placement == "sharded" and num_ranks() > 1)
        base = base_directory(loaded.identity)
        refuse_unopened_not_finite(loaded, base)
        require_same_model(loaded)
        prepared = prepared_run(config, store, loaded.identity, writer, notify)
        task = _task(arm, config, loaded, prepared, writer, reselect, notify)
        with _arm(arm, config, loaded, prepared) as setup:
            routers = None
            if setup.routers is not None and task.alternating is not None:
                routers = router_training(setup.routers, task.alternating, notify)
            notify(_plan(arm, config, loaded, prepared, setup, task, routers))
            fitted = fit_arm(config, loaded, setup, task, notify)
            setup.recount(loaded.model)
            if setup.slices is not None and is_first():
                with atomic_file(output / layout.DELTA) as temporary:
                    save_delta(temporary, setup.take(), loaded.identity)
            experts = setup.trained_experts
            setup.finish()
        if fitted.proof.num_moved != fitted.proof.num_parameters:
            fraction = f"{fitted.proof.num_moved} of {fitted.proof.num_parameters}"
            notify(Notice(text=f"only {fraction} parameters of the baseline changed", warning=True))
        fingerprint = weights_fingerprint(loaded.model)
        summary = on_first(lambda: _summary(arm, config, loaded, prepared, setup, task, fitted, fingerprint, routers))
        if not is_first() and not has_shares(loaded.model):
            return TrainOutput(output, summary)
        page = card(_card_facts(experts, base, prepared, summary)) if card is not None else None
        staged = atomic_directory(output / layout.FINAL_MODEL)
        with led(staged) if has_shares(loaded.model) else staged as staging:
            write_final_model(loaded, base, staging, card=page)
        if not is_first():
            return TrainOutput(output, summary)
        _write(arm, prepared, task, summary)
        writer.parents["prepare"] = prepared.run.digest
        store.add(
            writer,
            base_fingerprint=loaded.identity.fingerprint,
            model_name=config.model.name,
            device=str(loaded.device),
        )
    return TrainOutput(output, summary)


def _arm(arm: Arm, config: MoeConfig, loaded: LoadedModel, prepared: PreparedRun) -> AbstractContextManager[ArmSetup]:
    if arm == "baseline":
        return baseline_arm(loaded)
    selection, settings = prepared.selection, config.alternating
    alone = arm == "alternating" and settings.skip_expert_training
    if not selection.union and not (alone and settings.consistency_layers == "all"):
        raise UsageError(
            "the selection is empty: there is nothing to train selectively",
            hint="prepare with a lower --threshold, or look at the risk differences in the prepare run",
        )
    if alone:
        return alternating_arm(loaded, None, None, router_layers(config, loaded, prepared))
    budget = config.train.max_share if config.train.max_share is not None else selection.budget
    if arm == "selective" or not settings.trains_routers:
        return selective_arm(loaded, selection, budget)
    return alternating_arm(loaded, selection, budget, router_layers(config, loaded, prepared))


def _task(
    arm: Arm,
    config: MoeConfig,
    loaded: LoadedModel,
    prepared: PreparedRun,
    writer: RunWriter,
    reselect: ReselectExperts | None,
    notify: Notify,
) -> FitTask:
    batches, held_out = (
        FixedBatches(
            encode_batches(loaded.tokenizer, examples, config.train.max_length),
            max_padding=config.train.max_padding,
            max_tokens=config.train.max_forward_tokens,
        )
        for examples in (prepared.examples, prepared.held_out)
    )
    if num_cut := batches.num_cut:
        rows = f"{num_cut} of {batches.num_rows} training prompts lose their middle"
        notify(Notice(text=f"{rows}: raise train.max_length ({config.train.max_length})", warning=True))
    alternating = None
    if arm == "alternating" and config.alternating.trains_routers:
        alternating = alternating_task(config, prepared, batches)
        if config.alternating.reselect != "none":
            alternating = reselecting(alternating, config, loaded, prepared, reselect, notify)
    shared = hyperparameters(config, len(batches), len(prepared.held_out), batches.num_cut)
    masked = arm in OF_EXPERTS and config.train.masking == "update"
    identity = (arm, loaded.identity.fingerprint, prepared.run.digest, config.train.masking if masked else None, shared)
    left_out = {"output_dir", "reselect", *(() if config.alternating.joint else ("router_consistency_weight",))}
    rounds = (config.alternating.model_dump(exclude=left_out),) if arm == "alternating" else ()
    owner = sha256(repr(identity + rounds).encode()).hexdigest()
    per_step = batches_per_step(config)
    return FitTask(
        path=writer.path,
        owner=owner,
        batches=batches,
        held_out=held_out,
        batch_experts=[set(experts) for experts in prepared.selection.batches] if masked else None,
        shared=shared,
        checkpoint=on_first(lambda: newest_checkpoint(writer.path, owner, per_step)) if writer.resumed else None,
        alternating=alternating,
    )


def _plan(
    arm: Arm,
    config: MoeConfig,
    loaded: LoadedModel,
    prepared: PreparedRun,
    setup: ArmSetup,
    task: FitTask,
    routers: RouterTraining | None,
) -> TrainingPlan:
    null = prepared.selection.null_union
    trains_experts = arm in OF_EXPERTS and not (routers is not None and routers.alone)
    return TrainingPlan(
        arm=arm,
        base=loaded.identity,
        prepared=str(prepared.run.path),
        output=str(task.path),
        count=setup.count,
        masking=config.train.masking if trains_experts else None,
        union_size=len(prepared.selection.union) if trains_experts else None,
        null_union_mean=null.mean if null is not None and trains_experts else None,
        hyperparameters=task.shared,
        num_batches=len(task.batches),
        num_steps=num_steps(config, len(task.batches)) + (routers.num_own_steps if routers else 0),
        first_step=1 + (read_state(task.checkpoint).step if task.checkpoint else 0),
        num_ranks=num_ranks(),
        routers=routers,
    )


def _summary(
    arm: Arm,
    config: MoeConfig,
    loaded: LoadedModel,
    prepared: PreparedRun,
    setup: ArmSetup,
    task: FitTask,
    fitted: FitResult,
    trained_fingerprint: str,
    routers: RouterTraining | None,
) -> TrainingSummary:
    return training_summary(
        arm,
        loaded.identity,
        config.train.masking if arm in OF_EXPERTS else None,
        prepared,
        setup,
        fitted,
        trained_fingerprint=trained_fingerprint,
        shared=task.shared,
        schedule=schedule_digest(len(task.batches), config.seed, config.train.num_epochs),
        num_threads=torch.get_num_threads(),
        routers=routers,
    )


def _card_facts(experts: tuple[Expert, ...], base: Path, prepared: PreparedRun, summary: TrainingSummary) -> CardFacts:
    return CardFacts(
        holds="model",
        base=summary.base,
        license=license_of(base),
        training=summary,
        experts=tuple(sorted(experts)),
        routers=summary.routers is not None,
        sources=prepared.run.record(layout.PREPARE_SUMMARY, PrepareSummary).sources,
        evaluations=(),
        version=__version__,
    )


def _write(arm: Arm, prepared: PreparedRun, task: FitTask, summary: TrainingSummary) -> None:
    """Write the masks and the summary."""
    if arm in OF_EXPERTS:
        masks = prepared.run.file(layout.MASKS).read_bytes()
        selections = [phase.selected for phase in summary.phases if phase.selected is not None]
        write_atomic(task.path / layout.MASKS, with_selections(masks, selections, summary.base.layers))
    write_atomic(task.path / layout.METADATA, encode(summary, indent=True))
