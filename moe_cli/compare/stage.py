"""`moe compare`: is the comparison fair, and is the difference real?

Runs, or outcomes made elsewhere, become a `Comparison` on disk. The fairness gate comes before any number, and each
pair of arms is compared on the same items. Without evaluations, cost and parameters are compared, and the missing
command is named. Starts without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from moe_cli.activity import begin_activity
from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_atomic
from moe_cli.artifacts.run_directory import free_directory
from moe_cli.codec import encode
from moe_cli.compare.arms import copied_outcomes, group_runs, name_arms, regroup_sources
from moe_cli.compare.compared_runs import ComparedRun, TrainingData, add_selection, read_sources, read_training_data
from moe_cli.compare.comparison_texts import redact, select_flip_texts
from moe_cli.compare.conclusion import differing_checks, draw_conclusion, find_unshown_runs
from moe_cli.compare.evidence import Evidence
from moe_cli.compare.fairness import ITEMS, check_fairness
from moe_cli.compare.imported import Import, import_sources, is_file_of_results
from moe_cli.compare.pair_correction import correct_pairs
from moe_cli.compare.pair_labels import labels_of_pairs
from moe_cli.compare.report_data import collect_report_data
from moe_cli.compare.task_items import add_capability, unpaired_tasks_of
from moe_cli.compare.thresholds import Threshold, check_thresholds, thresholds_of
from moe_cli.compare.transfer import preparations_of, transfer_of
from moe_cli.config import MoeConfig
from moe_cli.data.contamination import goals_trained_on
from moe_cli.data.label_sheets import LabelSheet, read_sheet
from moe_cli.errors import ArtifactError
from moe_cli.records import ComparedArm, Comparison, FlipText, Notice, ReportData
from moe_cli.records.comparison import Unshown
from moe_cli.records.manifest import Notify
from moe_cli.stats.metrics import changed_opinions
from moe_cli.stats.outcomes import drop_metrics, match_items
from moe_cli.stats.paired import ArmItems
from moe_cli.stats.significance import CONFIDENCE

NO_IMPORT = Import()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Which pages are written for people, and what is in them."""

    markdown: Callable[[Comparison], str]
    report: Callable[[Comparison, ReportData], str]
    num_flips: int = 20  # in the report, of every measure and suite of each pair
    redact: bool = False  # the report has no words of prompts and answers, no ids of items, no absolute paths


@dataclass(frozen=True, slots=True)
class ComparisonOutput:
    """The result of `moe compare`."""

    path: Path
    comparison: Comparison
    texts: tuple[FlipText, ...]  # of the worst flips, as many as were asked for


@begin_activity("comparing")
def run(
    named: Sequence[str],
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    against: Sequence[str] = (),
    base: str | None = None,
    imports: Import = NO_IMPORT,
    pages: Pages | None = None,
    num_texts: int = 0,
) -> ComparisonOutput:
    """Compare the arms, each pair of them.

    `against` are the arguments after `--vs`; `imports` says how results made elsewhere are read, which any argument
    may name; `pages` says which pages are written beside the record; `num_texts` is how many flips of each pair are
    returned with their texts.

    Raises:
        UsageError: fewer than two runs, a threshold that is not understood, or a file that cannot be imported.
        ArtifactError: nothing to compare, damaged files, different items, or (strict) an unfair comparison.
        EnvironmentFaultError: the comparison could not be registered.
    """
    store.refuse_unwritable()
    settings = config.compare
    thresholds = thresholds_of(settings.fail_if)
    sheets = [read_sheet(place) for place in dict.fromkeys(settings.labels)]
    if imports.files or any(map(is_file_of_results, [*named, *against, *([base] if base else [])])):
        imported = import_sources(imports, named, notify, against=against, base=base)
        sources, groups = imported.sources, imported.groups
    else:
        groups = group_runs(named, against, base)
        sources = add_capability(read_sources([word for group in groups for word in group], settings.evaluation, store))
        _name_unevaluated(sources, notify)
        _name_passed_over(sources, notify)
    sources, data = _with_training_data(add_selection(sources, store), store)
    arms = regroup_sources(groups, sources, base)
    unshown = find_unshown_runs(sources, store)
    comparison = compare(
        arms, settings.margin, data, thresholds, intersect=settings.intersect, unshown=unshown, sheets=sheets
    )
    comparison = replace(comparison, transfer=transfer_of(comparison, preparations_of(sources, store)))
    if settings.strict:
        _refuse_unfair(comparison)
    output = free_directory(settings.output_dir, "comparison")
    with open_run(output, "comparison", config, resume=False, lasting=False) as writer:
        write_atomic(output / layout.COMPARISON, encode(comparison, indent=True))
        if pages is not None:
            report_data = collect_report_data(
                comparison, sources, store, made=writer.started.started, num_texts=pages.num_flips
            )
            _write_pages(output, comparison, report_data, pages)
        for place, source in enumerate(sources, start=1):
            writer.parents |= {f"{role} {place}": digest for role, digest in source.digests.items()}
        store.add(writer, base_fingerprint=None, model_name=None, device="none")
    return ComparisonOutput(output, comparison, select_flip_texts(comparison, sources, num_texts))


def compare(
    groups: Sequence[Sequence[ComparedRun]],
    margin: float,
    data: Sequence[TrainingData | None] | None = None,
    thresholds: Sequence[Threshold] = (),
    *,
    intersect: bool = False,
    unshown: Unshown | None = None,
    sheets: Sequence[LabelSheet] = (),
) -> Comparison:
    """Compare the sources: the gate, then each pair of arms, then the thresholds and the conclusion. Pure.

    `sheets` are people's labels, which correct the two arms that they are about.

    Raises:
        ArtifactError: different items, or labels of answers that are not there.
        UsageError: a threshold is about something that is not compared, or labels that cannot correct anything.
    """
    sources, arms = [source for group in groups for source in group], name_arms(groups)
    sources = _matched(_by_unchanged_judges(sources), intersect)
    columns = tuple(source.column for source in sources)
    trainings = [source.training for source in sources]
    fairness = check_fairness(columns, trainings, data, [len(arm.runs) for arm in arms])
    items = _arm_items(arms, sources)
    evidence = Evidence.of(columns, arms, fairness, margin)
    labels = labels_of_pairs(sheets, arms, sources)
    evaluated = [(a, b) for a, b in combinations(items, 2) if a.runs and b.runs]
    untrained = [arm.name for arm in arms if evidence.is_untrained(arm.name)]
    pairs = tuple(map(evidence.judged_alike, correct_pairs(evaluated, untrained, margin=margin, labels=labels.of_pair)))
    uncompared, copied = unpaired_tasks_of(sources), copied_outcomes(_in_arms(groups, sources))
    comparison = Comparison(
        columns=columns,
        arms=arms,
        fairness=fairness,
        pairs=pairs,
        margin=margin,
        confidence=CONFIDENCE,
        thresholds=(),
        conclusion=draw_conclusion(
            columns, arms, fairness, pairs, margin, uncompared, copied, unshown, labels.labellers
        ),
        unshown=unshown,
        labels=labels.files,
        labellers=labels.labellers,
    )
    return replace(comparison, thresholds=tuple(check_thresholds(thresholds, comparison, items)))


def _in_arms(groups: Sequence[Sequence[ComparedRun]], sources: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """The sources grouped into arms, as they were before."""
    remaining = iter(sources)
    return [[next(remaining) for _ in group] for group in groups]


def _write_pages(output: Path, comparison: Comparison, report_data: ReportData, pages: Pages) -> None:
    write_atomic(output / layout.COMPARISON_PAGE, pages.markdown(comparison).encode())
    written = redact(comparison, report_data) if pages.redact else (comparison, report_data)
    write_atomic(output / layout.REPORT, pages.report(*written).encode())


def _name_unevaluated(sources: Sequence[ComparedRun], notify: Notify) -> None:
    for path in [source.column.path for source in sources if source.items is None]:
        notify(Notice(text=f"{path} is not evaluated: moe evaluate {path}", warning=True))


def _name_passed_over(sources: Sequence[ComparedRun], notify: Notify) -> None:
    for source in sources:
        for path in source.passed_over:
            notify(Notice(text=f"{path} is an evaluation of other weights than its run wrote: left out", warning=True))
        for path in source.steered:
            text = f"{path} is an evaluation with a steered router: left out (its directory, named, is compared)"
            notify(Notice(text=text, warning=True))


def _with_training_data(
    sources: Sequence[ComparedRun], store: Store
) -> tuple[list[ComparedRun], list[TrainingData | None]]:
    """The sources with how many of their evaluated goals were trained on, and what each run was trained on."""
    data = read_training_data([source.training for source in sources], store)
    shared = [
        goals_trained_on(training_data.goals, [record.item for record in source.records])
        if training_data and source.records
        else None
        for source, training_data in zip(sources, data, strict=True)
    ]
    return [
        replace(source, column=replace(source.column, goals_trained_on=goals))
        for source, goals in zip(sources, shared, strict=True)
    ], data


def _by_unchanged_judges(sources: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The sources without second opinions whose judge is not the same in all runs."""
    changed = changed_opinions([source.column.evaluation for source in sources if source.column.evaluation])
    return [
        replace(source, items=drop_metrics(source.items, changed)) if source.items and changed else source
        for source in sources
    ]


def _matched(sources: Sequence[ComparedRun], intersect: bool) -> list[ComparedRun]:
    """The sources, where all evaluated ones have the same items."""
    evaluated = {source.column.name: source.items for source in sources if source.items is not None}
    matched = match_items(list(evaluated), list(evaluated.values()), intersect=intersect)
    items = dict(zip(evaluated, matched.runs, strict=True))
    left_out = dict(zip(evaluated, matched.left_out or [None] * len(evaluated), strict=True))
    return [
        replace(
            source,
            items=items.get(source.column.name),
            column=replace(source.column, items_left_out=left_out.get(source.column.name)),
        )
        for source in sources
    ]


def _arm_items(arms: Sequence[ComparedArm], sources: Sequence[ComparedRun]) -> list[ArmItems]:
    by_name = {source.column.name: source for source in sources}
    items = []
    for arm in arms:
        of_arm = [by_name[run] for run in arm.runs]
        runs = tuple(source.items for source in of_arm if source.items is not None)
        seeded = not of_arm[0].column.is_untrained
        items.append(ArmItems(arm.name, arm.runs, runs if len(runs) == len(of_arm) else (), seeded))
    return items


def _refuse_unfair(comparison: Comparison) -> None:
    paired = any(column.items_left_out is not None for column in comparison.columns)  # other items were asked for
    failing = [
        check for check in comparison.fairness if check.status == "differs" and not (paired and check.name == ITEMS)
    ]
    if failing:
        raise ArtifactError(
            "the comparison is not fair"
            + "".join(f"\n  - {differing_checks(check, comparison.columns)}" for check in failing),
            hint="make the runs alike, or leave --strict away: then the conclusion names the differences",
        )
