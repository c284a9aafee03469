"""`moe evaluate`: safety, over-refusal, capability and drift of one model.

The steps are generate, judge, drift, capability and summarise. Each resumes where it stopped and reuses what an earlier
evaluation of the same weights has (`cache.py`). With too many unscored answers the results are written and the command
fails.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from moe_cli.artifacts import RunWriter, Store, layout, open_run
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.config import MoeConfig
from moe_cli.evaluate.answers import answers_to, generation_settings
from moe_cli.evaluate.base_router import answer_with_base_router, restoring_base_router
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.capability import capability_results, refuse_unmeasurable_tasks
from moe_cli.evaluate.evaluation_files import EvaluationOutput, Subject, summarise_evaluation, write_evaluation
from moe_cli.evaluate.evaluation_items import load_items, notices_of_repeats
from moe_cli.evaluate.model_drift import drift_items, measure_drift, prompt_drift_items
from moe_cli.evaluate.steering_file import named_for, steering_of
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.evaluate.target import (
    EvaluationTarget,
    ModelPool,
    count_trained_goals,
    resolve_target,
    selected_experts_of,
)
from moe_cli.evaluate.verdicts import judge_answers
from moe_cli.evaluate.without_model import evaluate_served
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.judges.judge import Judge
from moe_cli.model.same_machine import require_same_directory, require_same_model, require_same_setup
from moe_cli.ranks import is_first, led, on_first
from moe_cli.records import EvaluationItem, EvaluationSummary, ModelIdentity, Stage
from moe_cli.records.ablation import Steering
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone


def run(
    target_name: str,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    resume: bool = False,
    again: Collection[Stage] = (),
) -> EvaluationOutput:
    """Evaluate the training run or model named `target_name`; stages in `again` reuse nothing of earlier evaluations.

    Several processes (`moe_cli.ranks`) call it at once: they share out the answers, and the texts and prompts of
    the drift. The first does the rest alone, and writes all of it.

    Raises:
        UsageError: no items, or no such model.
        ArtifactError: the run is damaged, or an interrupted evaluation of this name is there.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    if config.evaluate.engine == "openai":
        return alone(lambda: evaluate_served(target_name, config, store, notify, resume=resume, again=again))
    config, steering = _same_everywhere(config)
    on_first(store.refuse_unwritable)
    settings = config.evaluate
    judges = judges_of(settings.judges, config.judge)
    target = replace(alone(lambda: _target(target_name, config, store)), steering=steering)
    items = alone(lambda: _items(target, config, notify))
    to_answer = [item for item in items if item.kind != "text"]
    texts = [item for item in items if item.kind == "text"]
    on_first(lambda: _refuse_unable(judges, items, config))
    output = on_first(lambda: _output(target, target_name, config, resume=resume))
    run = open_run(output, "evaluation", config, resume=resume)
    with led(run) as writer, resumable(output, f"{layout.STAGES}/*"), closing(ModelPool(target)) as models:
        require_same_directory(writer)
        started = time.monotonic()
        work = StageCache(writer, again, notify, store)
        model, weights, device = models.tuned().identity, models.unsteered_fingerprint(), str(models.tuned().device)
        require_same_model(models.tuned())
        answers = answers_to(models.tuned(), to_answer, config, work)
        rerouted = answer_with_base_router(models, to_answer, config, work)
        if any(judge.holds_weights for judge in judges):
            models.close()
        sets = [(to_answer, answers), (rerouted.items, rerouted.answers) if rerouted else ((), {})]
        (records, rerouted_records), trained, selected_LE = alone(
            lambda: (
                judge_answers(judges, sets, work),
                count_trained_goals(target, to_answer, store, notify),
                selected_experts_of(target.run, store) if target.run else None,
            )
        )
        moved = drift_items(models, texts, config, work), prompt_drift_items(models, to_answer, config, work)

        def conclude() -> EvaluationSummary:
            drift = measure_drift(models, *moved, selected_LE, config, work)
            models.release_base()
            scores, samples = capability_results(models, config, work)
            restored = restoring_base_router(rerouted.changed_params, records, rerouted_records) if rerouted else None
            summary = summarise_evaluation(
                output.name,
                _subject(target, model, weights, config),
                items,
                records,
                [judge.identity for judge in judges],
                drift,
                scores,
                restored,
                trained,
                max_unscored=settings.max_unscored,
                taken=work.taken,
                seconds=None if writer.resumed or work.taken else time.monotonic() - started,
            )
            write_evaluation(output, items, records, rerouted_records, drift, samples, summary)
            return summary

        summary = alone(conclude)
        if is_first():
            _add(store, writer, target, weights, device)
    for judged in (records, rerouted_records) if is_first() else ():
        refuse_unscored(judged, settings.max_unscored, output)
    return EvaluationOutput(output, summary)


def _same_everywhere(config: MoeConfig) -> tuple[MoeConfig, Steering | None]:
    """The settings, with a name for how the router is steered, and that; both are the same in all processes."""
    steering = steering_of(config.evaluate)
    config = config.model_copy(update={"evaluate": named_for(config.evaluate, steering)})
    digest = steering.digest if steering else None
    require_same_setup("evaluate", config, {"the content of the file of evaluate.steer": digest})
    return config, steering


def _target(target_name: str, config: MoeConfig, store: Store) -> EvaluationTarget:
    return replace(resolve_target(target_name, config.model, store), scale=config.evaluate.scale)


def _items(target: EvaluationTarget, config: MoeConfig, notify: Notify) -> tuple[EvaluationItem, ...]:
    """The items to evaluate on; what repeats among them is told."""
    items = tuple(load_items(config.evaluate, target.base_name))
    for notice in notices_of_repeats(items):
        notify(notice)
    return items


def _output(target: EvaluationTarget, target_name: str, config: MoeConfig, *, resume: bool) -> Path:
    """Where the evaluation is written: beside what it measures."""
    run = target.run.path if target.run else None
    directory = layout.evaluation_directory(run, target_name, config.evaluate.name)
    return free_directory(directory, "evaluation", config if resume else None)


def _add(store: Store, writer: RunWriter, target: EvaluationTarget, weights: str, device: str) -> None:
    """Complete the run and register it."""
    if target.run is not None:
        writer.parents["run"] = target.run.digest
    base_fingerprint = target.training.base.fingerprint if target.training else weights
    store.add(writer, base_fingerprint=base_fingerprint, model_name=target.base_name, device=device)


def _refuse_unable(judges: Sequence[Judge], items: Sequence[EvaluationItem], config: MoeConfig) -> None:
    """Refuse tasks and judges that cannot work, before anything is answered."""
    refuse_undecided(judges, {item.kind for item in items if item.kind != "text"})
    refuse_unmeasurable_tasks(config)
    for judge in judges:
        judge.check()


def _subject(target: EvaluationTarget, model: ModelIdentity, weights: str, config: MoeConfig) -> Subject:
    return Subject(
        model=model,
        run=target.run.path if target.run else None,
        training_mode=target.training_mode,
        base=target.training.base if target.training else None,
        epochs=config.evaluate.epochs,
        generation=generation_settings(config, model),
        steering=target.steering,
        unsteered_fingerprint=weights if target.steering else None,
    )
