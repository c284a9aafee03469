"""`moe ablate`: do the selected experts carry the harm? The model answers without them, and without equally used ones.

Every condition is the same weights with an intervention (`model/interventions.py`) and has an identity of its own, so
that its answers are kept in a journal of its own and an interrupted ablation goes on inside a condition. All conditions
answer the same items with the same settings, and the same judges read all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe_cli.ablate.ablation_conclusion import AblationSubject, conclude_ablation
from moe_cli.ablate.condition_outcomes import table_of
from moe_cli.ablate.conditions import Conditions, plan_conditions, selected_experts
from moe_cli.artifacts import FinishedRun, RunWriter, Store, layout, open_run
from moe_cli.artifacts.examples import plain_forms_of
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.journal import resumable
from moe_cli.artifacts.registry import require_unchanged_run
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import decode_lines, encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import clusters_trained_on, trained_goals
from moe_cli.errors import ArtifactError, UsageError
from moe_cli.evaluate.answers import answers_to, generation_settings
from moe_cli.evaluate.cache import StageCache
from moe_cli.evaluate.evaluation_items import load_items, notices_of_repeats
from moe_cli.evaluate.suite_rates import refuse_unscored
from moe_cli.evaluate.target import EvaluationTarget, load_target, resolve_target
from moe_cli.evaluate.verdicts import judge_answers
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.model.chat import EncodedChat, encode_answered
from moe_cli.model.interventions import mean_outputs, without_experts
from moe_cli.model.load import LoadedModel
from moe_cli.model.token_rows import answered_rows, length_batches, loss_sum, num_answer_tokens
from moe_cli.prepare.routing_file import read_counts
from moe_cli.records import (
    Ablation,
    EvaluationItem,
    Generation,
    Intervention,
    Notice,
    Progress,
    Selection,
    TextLoss,
    TrainingExample,
)
from moe_cli.records.manifest import Notify


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

    Raises:
        ArtifactError: no complete prepare run there, damaged, or the target is of another model.
        UsageError: no expert is selected, no fitting items, items whose goals chose the experts, or experts that
            cannot be taken away.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    _refuse_other_answers(config)
    store.refuse_unwritable()
    source = require_unchanged_run(prepared, store, "prepare")
    selection = source.record(layout.SELECTION, Selection)
    judges = judges_of(config.evaluate.judges, config.judge)
    target = resolve_target(target_name or selection.base.place, config.model, store)
    items = ablation_items(source, selection, config, notify)
    refuse_undecided(judges, {item.kind for item in items.answered if item.kind != "text"})
    for judge in judges:
        judge.check()
    counts = read_counts(source.file(layout.routing_counts(selection.base.name)))
    conditions = plan_conditions(selected_experts(source, selection, config.ablate.side), counts, config)
    output = free_directory(config.ablate.output_dir, "ablation", config if resume else None)
    with open_run(output, "ablation", config, resume=resume) as writer, resumable(output, f"{layout.STAGES}/*"):
        work = StageCache(writer, (), notify, store, reuse=False)
        loaded = load_target(target)
        _refuse_other_model(target, loaded, selection)
        answers_X, losses_X = _conditions_of(loaded, conditions, items, config, work)
        sets = [(items.answered, answers) for answers in answers_X]
        records_X = judge_answers(judges, sets, work)
        num_harmful = len(items.harmful)
        benign_X = [records[num_harmful:] for records in records_X]
        subject = AblationSubject(
            prepared=str(prepared),
            model=loaded.identity,
            run=None if target.run is None else str(target.run.path),
            training_mode=target.training_mode,
            judges=tuple(judge.identity for judge in judges),
            generation=generation_settings(config, loaded.identity),
            same_goals=items.same_goals,
        )
        table = table_of([records[:num_harmful] for records in records_X], benign_X, config.ablate.side)
        ablation = conclude_ablation(subject, conditions, table, benign_X, losses_X, config)
        write_atomic(output / layout.RECORDS, encode_lines(records_X[1]))
        write_atomic(output / layout.ABLATION, encode(ablation, indent=True))
        write_atomic(output / layout.ABLATION_PAGE, pages.markdown(ablation).encode())
        write_atomic(output / layout.REPORT, pages.report(ablation).encode())
        _add(store, writer, source, target, selection, str(loaded.device))
    refuse_unscored([record for records in records_X for record in records], config.evaluate.max_unscored, output)
    return AblationOutput(output, ablation)


def _refuse_other_answers(config: MoeConfig) -> None:
    """Refuse settings of an evaluation whose answers are not those of the weights as they are."""
    settings = config.evaluate
    asked = (
        ("evaluate.engine", settings.engine != "transformers"),
        ("evaluate.answers", bool(settings.answers)),
        ("evaluate.steer", settings.steer is not None),
        ("evaluate.scale", settings.scale != 1.0),
    )
    if changed := [name for name, is_changed in asked if is_changed]:
        raise UsageError(
            f"an ablation answers with the weights as they are, without experts; {changed[0]} says otherwise",
            hint=f"leave {changed[0]} away",
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


def _conditions_of(
    loaded: LoadedModel, conditions: Conditions, items: AblationItems, config: MoeConfig, work: StageCache
) -> tuple[list[dict[str, Generation]], list[float | None]]:
    """Answers and text loss of every condition, in order."""
    told, notify = set[str](), work.notify

    def once(event: object) -> None:
        """Each notice once, and no progress inside a condition."""
        if isinstance(event, Notice) and event.text not in told:
            told.add(event.text)
            notify(event)

    work.notify = once
    rows = _text_rows(loaded, items.texts)
    means_LEH = _means(loaded, conditions, rows, config)
    losses = TextLosses(loaded, rows, means_LEH, config, work)
    answers_X, losses_X = [], []
    for number, condition in enumerate(conditions.all):
        notify(Progress(task="conditions", done=number, total=len(conditions.all)))
        intervention = condition.intervention(config)
        with without_experts(loaded, intervention, means_LEH) as changed:
            answers_X.append(answers_to(changed, items.answered, config, work))
        losses_X.append(losses.of(intervention))
    notify(Progress(task="conditions", done=len(conditions.all), total=len(conditions.all)))
    work.notify = notify
    return answers_X, losses_X


def _text_rows(loaded: LoadedModel, texts: Sequence[EvaluationItem]) -> list[EncodedChat]:
    return [encode_answered(loaded.tokenizer, item.messages) for item in texts]


def _means(
    loaded: LoadedModel, conditions: Conditions, rows: Sequence[EncodedChat], config: MoeConfig
) -> tuple[Tensor, ...] | None:
    """The mean outputs of all experts that some condition takes away, on the text items.

    Raises:
        UsageError: there are no text items.
    """
    if config.ablate.intervention != "mean":
        return None
    if not rows:
        raise UsageError(
            "the intervention `mean` needs harmless texts, and the items hold none", hint="add text items to --items"
        )
    experts = sorted({expert for condition in conditions.all for expert in condition.experts})
    return mean_outputs(loaded, [row.token_ids for row in rows], experts)


class TextLosses:
    """The loss on the text items under an intervention; a journal keeps those that are measured."""

    def __init__(
        self,
        loaded: LoadedModel,
        rows: Sequence[EncodedChat],
        means_LEH: tuple[Tensor, ...] | None,
        config: MoeConfig,
        work: StageCache,
    ) -> None:
        self._loaded, self._rows, self._means_LEH = loaded, rows, means_LEH
        self._settings = config.evaluate
        whose = loaded.depends_on, [row.token_ids for row in rows], [row.labels for row in rows]
        self._journal = work.journal("drift", "text losses", TextLoss, *whose, file="losses")
        self._known = {record.intervention: record for record in self._journal.records()}

    def of(self, intervention: Intervention) -> float | None:
        """Nats for each token; the intervention is on every token of a text. None: there are no text items."""
        if not self._rows:
            return None
        if intervention.digest not in self._known:
            everywhere = Intervention(experts=intervention.experts, kind=intervention.kind, tokens="all")
            loss, num_tokens = self._measure(without_experts(self._loaded, everywhere, self._means_LEH))
            record = TextLoss(intervention=intervention.digest, loss=loss, num_tokens=num_tokens)
            self._journal.append([record])
            self._known[intervention.digest] = record
        known = self._known[intervention.digest]
        return known.loss / known.num_tokens

    def _measure(self, changed: AbstractContextManager[LoadedModel]) -> tuple[float, int]:
        loss, num_tokens = 0.0, 0
        places = length_batches(
            [len(row.token_ids) for row in self._rows],
            max_rows=self._settings.batch_size,
            max_tokens=self._settings.batch_tokens,
        )
        with changed, torch.inference_mode():
            for batch in places:
                rows = answered_rows([self._rows[place] for place in batch])
                on_device = {name: tensor.to(self._loaded.device) for name, tensor in rows.items()}
                loss += float(loss_sum(self._loaded.model, on_device))
                num_tokens += num_answer_tokens(rows["labels"])
        return loss, num_tokens


def _add(
    store: Store, writer: RunWriter, source: FinishedRun, target: EvaluationTarget, selection: Selection, device: str
) -> None:
    writer.parents["prepare"] = source.digest
    if target.run is not None:
        writer.parents["run"] = target.run.digest
    store.add(writer, base_fingerprint=selection.base.fingerprint, model_name=selection.base.name, device=device)
