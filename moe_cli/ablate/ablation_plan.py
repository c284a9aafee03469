"""All that an ablation knows before a model is loaded: its prepare run, target, items and conditions; and its dry run.

Nothing is written. What would stop the ablation later is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_cli.ablate.conditions import Conditions, plan_conditions, selected_experts
from moe_cli.artifacts import layout
from moe_cli.artifacts.examples import plain_forms_of
from moe_cli.artifacts.finished import FinishedRun
from moe_cli.artifacts.registry import Store, require_unchanged_run, training_run_named
from moe_cli.codec import decode_lines
from moe_cli.config.settings import MoeConfig
from moe_cli.data.contamination import clusters_trained_on, trained_goals
from moe_cli.errors import MoeError, UsageError
from moe_cli.evaluate.evaluation_items import load_items, notices_of_repeats
from moe_cli.evaluate.preview import preview_evaluation
from moe_cli.evaluate.target import EvaluationTarget, resolve_target
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.deciding import refuse_undecided
from moe_cli.judges.judge import Judge
from moe_cli.prepare.routing_file import read_counts
from moe_cli.records import EvaluationItem, ItemsPreview, Selection, TrainingExample
from moe_cli.records.manifest import Notify


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
