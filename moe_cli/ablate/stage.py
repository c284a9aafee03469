"""`moe ablate`: do the selected experts carry the harm? The model answers without them, and without equally used ones.

Every condition is the same weights with an intervention (`model/interventions.py`) and has an identity of its own, so
that its answers are kept in a journal of its own and an interrupted ablation goes on inside a condition. All conditions
answer the same items with the same settings, and the same judges read all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.ablate.ablation_conclusion import AblationSubject, conclude_ablation
from moe_cli.ablate.ablation_plan import AblationPlan, plan_ablation
from moe_cli.ablate.condition_outcomes import outcomes_of_conditions
from moe_cli.ablate.harmless_texts import TextLosses, encoded_texts, mean_outputs_of
from moe_cli.artifacts import RunWriter, Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.errors import ArtifactError
from moe_cli.evaluate.answers import answers_to, generation_settings
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.evaluate.target import EvaluationTarget, load_target
from moe_cli.evaluate.verdicts import judge_answers
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.judge import Judge
from moe_cli.model.interventions import without_experts
from moe_cli.model.load import LoadedModel
from moe_cli.model.memory import free_memory
from moe_cli.model.same_machine import require_same_directory, require_same_model, require_same_setup
from moe_cli.ranks import led, on_first
from moe_cli.records import (
    Ablation,
    EvaluationRecord,
    Generation,
    ModelIdentity,
    Notice,
    Progress,
    Selection,
)
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPages:
    """Makers of the pages for people."""

    markdown: Callable[[Ablation], str]
    report: Callable[[Ablation], str]


@dataclass(frozen=True, slots=True)
class AblationOutput:
    """The result of `moe ablate`."""

    path: Path
    ablation: Ablation


def run(
    prepared: Path,
    target_name: str | None,
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    pages: AblationPages,
    resume: bool = False,
) -> AblationOutput:
    """Ablate the experts of the prepare run in the model it was made on, or in the training run `target_name`.

    Several processes (`moe_cli.ranks`) call it at once: they share out the answers and the texts. The first does the
    rest alone, and writes all of it.

    Raises:
        ArtifactError: no complete prepare run there, damaged, or the target is of another model.
        UsageError: no training run, no expert is selected, no fitting items, items whose goals chose the experts, or
            experts that cannot be taken away.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    require_same_setup("ablate", config)
    on_first(store.refuse_unwritable)
    judges = judges_of(config.evaluate.judges, config.judge)
    plan = alone(lambda: plan_ablation(prepared, target_name, judges, config, store, notify))
    output = on_first(lambda: free_directory(config.ablate.output_dir, "ablation", config if resume else None))
    judged: list[EvaluationRecord] = []  # of the first process alone
    opened = open_run(output, "ablation", config, resume=resume)
    with led(opened) as writer, resumable(output, f"{layout.STAGES}/*"):
        require_same_directory(writer)
        work = StageCache(writer, (), notify, store, reuse=False)
        inside = StageCache(writer, (), _each_notice_once(notify), store, reuse=False)
        answered = _answer_conditions(plan, config, inside, notify)
        free_memory()  # before a judge loads weights of its own

        def conclude() -> Ablation:
            records_X = judge_answers(judges, [(plan.items.answered, answers) for answers in answered.answers_X], work)
            judged.extend(record for records in records_X for record in records)
            ablation = _conclude(str(prepared), plan, answered, judges, records_X, config)
            write_atomic(output / layout.RECORDS, encode_lines(records_X[1]))
            write_atomic(output / layout.ABLATION, encode(ablation, indent=True))
            write_atomic(output / layout.ABLATION_PAGE, pages.markdown(ablation).encode())
            write_atomic(output / layout.REPORT, pages.report(ablation).encode())
            _add(store, writer, plan, answered.device)
            return ablation

        ablation = alone(conclude)
    refuse_unscored(judged, config.evaluate.max_unscored, output)
    return AblationOutput(output, ablation)


def _conclude(
    prepared: str,
    plan: AblationPlan,
    answered: AnsweredConditions,
    judges: Sequence[Judge],
    records_X: Sequence[Sequence[EvaluationRecord]],
    config: MoeConfig,
) -> Ablation:
    """What the records of all conditions say."""
    num_harmful = len(plan.items.harmful)
    benign_X = [records[num_harmful:] for records in records_X]
    subject = AblationSubject(
        prepared=prepared,
        model=answered.model,
        run=None if plan.target.run is None else str(plan.target.run.path),
        training_mode=plan.target.training_mode,
        judges=tuple(judge.identity for judge in judges),
        generation=generation_settings(config, answered.model),
        same_goals=plan.items.same_goals,
    )
    table = outcomes_of_conditions([records[:num_harmful] for records in records_X], benign_X, config.ablate.side)
    return conclude_ablation(subject, plan.conditions, table, benign_X, answered.losses_X, config)


def _refuse_other_model(target: EvaluationTarget, loaded: LoadedModel, selection: Selection) -> None:
    base = target.training.base if target.training else loaded.identity
    if base.fingerprint != selection.base.fingerprint:
        raise ArtifactError(
            f"the experts were selected in the weights {selection.base.fingerprint[:12]} ({selection.base.name}), but "
            f"this model has, or was trained from, {base.fingerprint[:12]}",
            hint="ablate a model that was trained from the prepare run, in its dtype",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredConditions:
    """What the model gave under every condition, in order."""

    model: ModelIdentity
    device: str
    answers_X: tuple[dict[str, Generation], ...]
    losses_X: tuple[float | None, ...]  # on the text items


def _answer_conditions(plan: AblationPlan, config: MoeConfig, work: StageCache, notify: Notify) -> AnsweredConditions:
    """Load the model, answer every item under every condition, and let the model go."""
    loaded, conditions = load_target(plan.target), plan.conditions
    require_same_model(loaded)
    _refuse_other_model(plan.target, loaded, plan.selection)
    rows = encoded_texts(loaded, plan.items.texts)
    means_LEH = alone(lambda: mean_outputs_of(loaded, conditions, rows, config))
    losses = TextLosses(loaded, rows, means_LEH, config, work)
    answers_X, losses_X = [], []
    for number, condition in enumerate(conditions.all):
        notify(Progress(task="conditions", done=number, total=len(conditions.all)))
        intervention = condition.intervention(config)
        with without_experts(loaded, intervention, means_LEH) as changed:
            answers_X.append(answers_to(changed, plan.items.answered, config, work))
        losses_X.append(losses.of(intervention))
    notify(Progress(task="conditions", done=len(conditions.all), total=len(conditions.all)))
    return AnsweredConditions(
        model=loaded.identity, device=str(loaded.device), answers_X=tuple(answers_X), losses_X=tuple(losses_X)
    )


def _each_notice_once(notify: Notify) -> Notify:
    """Passes every notice on once, and no progress: what happens inside each condition."""
    told: set[str] = set()

    def once(event: object) -> None:
        if isinstance(event, Notice) and event.text not in told:
            told.add(event.text)
            notify(event)

    return once


def _add(store: Store, writer: RunWriter, plan: AblationPlan, device: str) -> None:
    writer.parents["prepare"] = plan.source.digest
    if plan.target.run is not None:
        writer.parents["run"] = plan.target.run.digest
    base = plan.selection.base
    store.add(writer, base_fingerprint=base.fingerprint, model_name=base.name, device=device)
