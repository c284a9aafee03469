"""`moe ablate`: do the selected experts carry the harm? The model answers without them, and without equally used ones.

Every condition is the same weights with an intervention (`model/interventions.py`) and has an identity of its own, so
that its answers are kept in a journal of its own and an interrupted ablation goes on inside a condition. All conditions
answer the same items with the same settings, and the same judges read all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_cli.ablate.ablation_conclusion import AblationSubject, conclude_ablation
from moe_cli.ablate.condition_outcomes import table_of
from moe_cli.ablate.conditions import Conditions, plan_conditions, selected_experts
from moe_cli.ablate.harmless_texts import TextLosses, mean_outputs_of, text_rows
from moe_cli.artifacts import FinishedRun, RunWriter, Store, layout, open_run
from moe_cli.artifacts.examples import plain_forms_of
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.registry import require_unchanged_run, training_run_named
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import decode_lines, encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import clusters_trained_on, trained_goals
from moe_cli.errors import ArtifactError, MoeError, UsageError
from moe_cli.evaluate.answers import answers_to, generation_settings
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.evaluation_items import load_items, notices_of_repeats
from moe_cli.evaluate.preview import preview_evaluation
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.evaluate.target import EvaluationTarget, load_target, resolve_target
from moe_cli.evaluate.verdicts import judge_answers
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.judges.judge import Judge
from moe_cli.model.interventions import without_experts
from moe_cli.model.load import LoadedModel
from moe_cli.model.memory import free_memory
from moe_cli.model.same_machine import require_same_directory, require_same_model, require_same_setup
from moe_cli.prepare.routing_file import read_counts
from moe_cli.ranks import led, on_first
from moe_cli.records import (
    Ablation,
    EvaluationItem,
    EvaluationRecord,
    Generation,
    ItemsPreview,
    ModelIdentity,
    Notice,
    Progress,
    Selection,
    TrainingExample,
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


@dataclass(frozen=True, slots=True)
class AblationItems:
    """The items of an ablation."""

    harmful: tuple[EvaluationItem, ...]  # attacks; of the side `safe` plain goals
    benign: tuple[EvaluationItem, ...]
    texts: tuple[EvaluationItem, ...]
    same_goals: bool  # some of the harmful goals chose the experts

    @property
    def answered(self) -> tuple[EvaluationItem, ...]:
        """The items that are answered."""
        return self.harmful + self.benign


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
    require_same_setup(config)
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
    table = table_of([records[:num_harmful] for records in records_X], benign_X, config.ablate.side)
    return conclude_ablation(subject, plan.conditions, table, benign_X, answered.losses_X, config)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPlan:
    """All that is known before a model is loaded."""

    source: FinishedRun  # the prepare run
    selection: Selection
    target: EvaluationTarget
    items: AblationItems
    conditions: Conditions


def plan_ablation(
    prepared: Path,
    target_name: str | None,
    judges: Sequence[Judge],
    config: MoeConfig,
    store: Store,
    notify: Notify,
) -> AblationPlan:
    """What an ablation would do. Raises as `run`, before anything is loaded or written."""
    _refuse_untrained(target_name, store)
    config.refuse_for_ablation()
    source = require_unchanged_run(prepared, store, "prepare")
    selection = source.record(layout.SELECTION, Selection)
    target = resolve_target(target_name or selection.base.place, config.model, store)
    items = ablation_items(source, selection, config, notify)
    refuse_undecided(judges, {item.kind for item in items.answered if item.kind != "text"})
    for judge in judges:
        judge.check()
    counts = read_counts(source.file(layout.routing_counts(selection.base.name)))
    experts = selected_experts(source, selection, config.ablate.side)
    return AblationPlan(
        source=source,
        selection=selection,
        target=target,
        items=items,
        conditions=plan_conditions(experts, counts, config),
    )


def preview_ablation(
    prepared: Path, target_name: str | None, config: MoeConfig, store: Store
) -> tuple[ItemsPreview, MoeError | None]:
    """The items that would be answered, and the error with which the ablation would end before it loads a model."""
    base = require_unchanged_run(prepared, store, "prepare").record(layout.SELECTION, Selection).base
    _refuse_untrained(target_name, store)
    preview, refusal = preview_evaluation(target_name or base.place, config, store)
    if refusal is None:
        try:
            judges = judges_of(config.evaluate.judges, config.judge)
            plan_ablation(prepared, target_name, judges, config, store, lambda _: None)
        except MoeError as error:
            return replace(preview, refused=error.message), error
    return preview, refusal


def _refuse_untrained(target_name: str | None, store: Store) -> None:
    """Refuse a name that is no training run; without a name the model of the prepare run is meant.

    Raises:
        UsageError: no run is there.
        ArtifactError: the run there is of another kind, or changed.
    """
    if target_name is not None and training_run_named(target_name, store) is None:
        raise UsageError(
            f"there is no training run in {target_name}, and --on names one",
            hint="moe runs list shows them; the model that the prepare run was made on needs no --on",
        )


def ablation_items(source: FinishedRun, selection: Selection, config: MoeConfig, notify: Notify) -> AblationItems:
    """The items; none of the harmful goals chose the experts, unless that is allowed.

    Raises:
        UsageError: there are no harmful items of the side, or goals that chose the experts.
    """
    items = tuple(load_items(config.evaluate, selection.base.name))
    for notice in notices_of_repeats(items):
        notify(notice)
    on_plain = config.ablate.side == "safe"
    harmful = tuple(item for item in items if (item.is_plain_goal if on_plain else item.is_attack))
    if not harmful:
        what = "goals that are asked plainly" if on_plain else "attacks"
        raise UsageError(f"the items hold no {what}", hint="name items that do: --items harmful=FILE")
    name = layout.training_examples(selection.base.name)
    examples = tuple(decode_lines(TrainingExample, source.file(name)))
    goals = trained_goals(examples, plain_forms_of(source, selection.base.name))
    chose = clusters_trained_on(goals, [(item.cluster, item.messages) for item in harmful])
    if chose and not config.ablate.same_goals:
        raise UsageError(
            f"{len(chose)} of the {len({item.cluster for item in harmful})} goals of the items chose the experts: what "
            "is measured on them is what they were chosen by",
            hint="name items of other goals with --items, or allow these with --same-goals",
        )
    return AblationItems(
        harmful=harmful,
        benign=tuple(item for item in items if item.kind == "benign"),
        texts=tuple(item for item in items if item.kind == "text"),
        same_goals=bool(chose),
    )


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
    rows = text_rows(loaded, plan.items.texts)
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
