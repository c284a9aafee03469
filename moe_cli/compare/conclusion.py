"""The conclusion in plain sentences, made by rules from the records alone.

The most important sentences come first: the trained arms against each other, then each against the untrained base. A
failing fairness check and answers without a verdict beyond the allowed share are named before any result. Trained
arms that were not evaluated are compared by their cost.

That part of a repair lives in the router is claimed only where the goals that changed with the base's router are too
one-sided for chance and the answers that changed are more than the margin.

Evaluating ten times, or training five seeds, and showing the best one finds what is not there. So other runs that
the registry knows are counted, also those whose directories are gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from moe_cli.artifacts import Store, finished_run
from moe_cli.artifacts.registry import state_of
from moe_cli.compare.arms import same_weights
from moe_cli.compare.caveats import missing_controls, state_caveats
from moe_cli.compare.claims import pair_sentences
from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.compare.evidence import Evidence
from moe_cli.compare.wording import format_interval, format_percent, format_points, join_words, p_text
from moe_cli.records import RunRecord
from moe_cli.records.comparison import ComparedArm, FairnessCheck, PairComparison, RunColumn, Unshown
from moe_cli.records.drift import RestoredRouter
from moe_cli.records.judging import Agreement
from moe_cli.records.training import ARMS
from moe_cli.stats.metrics import changed_opinions, mean_over_runs, opinion_of
from moe_cli.stats.significance import LEVEL, mcnemar_p


def router_claims(columns: Sequence[RunColumn], margin: float) -> Iterator[str]:
    """Sentences about runs whose trained router differs from the base's and was evaluated with the base's router."""
    for column in columns:
        restored = column.evaluation.restored_router if column.evaluation else None
        if restored is not None and restored.changed_params > 0:
            yield from _detour(column.name, restored, margin)


def _detour(name: str, restored: RestoredRouter, margin: float) -> Iterator[str]:
    """Whether attacks come back with the router of the base.

    By an exact two-sided sign test over the goals that changed, half of them expected in either direction.
    """
    if restored.n == 0:
        yield (
            f"Whether part of the repair of {name} lives in its router could not be told: no attack was scored both"
            " as trained and with the router of its base."
        )
        return
    back = (restored.only_restored - restored.only_tuned) / restored.n
    p_value = mcnemar_p(restored.clusters_restored, restored.clusters_tuned)
    if back <= margin:
        return
    yield f"{_change(name, restored, back, p_value)}: {_meaning(p_value)}."


def _change(name: str, restored: RestoredRouter, back: float, p_value: float) -> str:
    changed = restored.clusters_restored + restored.clusters_tuned
    return (
        f"With the router of its base {name} obeys {restored.only_restored} attacks that it does not obey as trained,"
        f" and {restored.only_tuned} the other way round, {format_points(back)} points more (n = {restored.n} answers;"
        f" {restored.clusters_restored} of the {changed} goals that changed obey more, {p_text(p_value)})"
    )


def _meaning(p_value: float) -> str:
    if p_value < LEVEL:
        return "part of its repair lives in the router, not in the experts"
    return "the data cannot tell whether part of its repair lives in the router"


def find_unshown_runs(sources: Sequence[ComparedRun], store: Store) -> Unshown:
    """Evaluations of the weights that are compared, and runs trained on the same preparations, that are not shown."""
    shown_digests = {digest for source in sources for digest in source.digests.values()}
    others = [record for record in store.records() if record.manifest_digest not in shown_digests]
    roots = _Roots(store.records("prepare"))
    preparations = {roots.of(source.training.prepared) for source in sources if source.training}
    runs = [
        record for record in others if record.kind in ARMS and roots.of(record.parents.get("prepare")) in preparations
    ]
    return Unshown(
        evaluations=sum(record.kind == "evaluation" and _is_of(record, sources) for record in others),
        runs=len(runs),
        seeds=tuple(sorted({seed for record in runs for seed in _seed(record)})),
    )


def describe_unshown_runs(unshown: Unshown | None) -> Iterator[str]:
    """How many runs and evaluations are not shown, and which seeds they have."""
    if unshown is None:
        return
    parts = []
    if unshown.evaluations:
        parts.append(f"{_number(unshown.evaluations, 'other evaluation')} of these weights")
    if unshown.runs:
        seeds = f" (seed{'s' * (len(unshown.seeds) > 1)} {format_interval(unshown.seeds)})" if unshown.seeds else ""
        parts.append(f"{_number(unshown.runs, 'other trained run')} of this preparation{seeds}")
    if parts:
        verb = "is" if unshown.evaluations + unshown.runs == 1 else "are"
        yield f"{join_words(parts)} {verb} not shown: where the best of several is shown, it looks better than it is."


def _number(num: int, noun: str) -> str:
    return f"{num} {noun}{'s' * (num > 1)}"


def _is_of(record: RunRecord, sources: Sequence[ComparedRun]) -> bool:
    """Whether an evaluation is of a compared run, or of a bare model with these weights."""
    if "run" in record.parents:
        return record.parents["run"] in {source.digests.get("run") for source in sources}
    bare = [source.column.evaluation for source in sources if source.training is None]
    return record.base_fingerprint in {
        evaluation.unsteered_model.fingerprint for evaluation in bare if evaluation and evaluation.unsteered_model
    }


def _seed(record: RunRecord) -> Iterator[int]:
    if state_of(record) == "complete":
        yield finished_run(Path(record.path)).manifest.seed


class _Roots:
    """Finds the original prepare run of a selection, through any number of `moe select`."""

    def __init__(self, prepared: Sequence[RunRecord]) -> None:
        self._parent = {record.manifest_digest: record.parents.get("prepare") for record in prepared}

    def of(self, digest: str | None) -> str | None:
        while digest is not None and (parent := self._parent.get(digest)) is not None:
            digest = parent
        return digest


def draw_conclusion(
    columns: Sequence[RunColumn],
    arms: Sequence[ComparedArm],
    fairness: Sequence[FairnessCheck],
    pairs: Sequence[PairComparison],
    margin: float,
    uncompared: Sequence[str] = (),
    copied: Sequence[str] = (),
    unshown: Unshown | None = None,
    labellers: Sequence[Agreement] = (),
) -> tuple[str, ...]:
    """What the comparison shows, what it cannot show, and how far to trust it.

    `uncompared` are sentences about tasks, `copied` about imported columns that hardly differ; `labellers` is the
    agreement of the people who labelled answers.
    """
    evidence = Evidence.of(columns, arms, fairness, margin)
    sentences = [*_fairness_sentences(columns, fairness), *_items(columns), *_goals(columns)]
    sentences += [*same_weights(columns), *copied]
    sentences += [*_final_steps(columns), *_unevaluated(columns), *_unscored(columns)]
    for pair in sorted(pairs, key=evidence.with_untrained):
        sentences += [*pair_sentences(pair, evidence), *_cost_sentences(pair.a, pair.b, evidence)]
    for a, b in combinations([arm.name for arm in arms], 2):
        if not any((pair.a, pair.b) == (a, b) for pair in pairs):
            sentences += _cost_sentences(a, b, evidence)
    sentences += [*_changed_judges(columns), *uncompared, *_all_same(fairness)]
    sentences += [
        *router_claims(columns, evidence.price_margin),
        *_router_training(columns),
        *missing_controls(columns),
    ]
    sentences += [*describe_unshown_runs(unshown)]
    return (*sentences, *state_caveats(columns, arms, pairs, labellers))


def _fairness_sentences(columns: Sequence[RunColumn], fairness: Sequence[FairnessCheck]) -> Iterator[str]:
    failing = [check for check in fairness if check.status == "differs"]
    unknown = [check.name for check in fairness if check.status == "unknown"]
    if failing:
        yield f"The comparison is not fair: {'; '.join(differing_checks(check, columns) for check in failing)}."
    if unknown:
        yield f"Could not be checked for fairness: {join_words(unknown)}."


def _all_same(fairness: Sequence[FairnessCheck]) -> Iterator[str]:
    if fairness and all(check.status == "same" for check in fairness):
        yield f"All {len(fairness)} conditions of a fair comparison that were checked are the same."


def differing_checks(check: FairnessCheck, columns: Sequence[RunColumn]) -> str:
    """A sentence for every failing check, with the value of every run."""
    values = ", ".join(f"{column.name} {value}" for column, value in zip(columns, check.values, strict=True))
    return f"{check.name} differs ({values})"


def _items(columns: Sequence[RunColumn]) -> Iterator[str]:
    left_out = [f"{column.items_left_out} of {column.name}" for column in columns if column.items_left_out is not None]
    if left_out:
        yield f"Only the items that all runs have are compared; left out are {join_words(left_out)}."


def _goals(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        if column.goals_trained_on and column.goals_trained_on[0]:
            held, all_goals = column.goals_trained_on
            yield (
                f"{column.name} was trained on {held} of the {all_goals} goals that it is evaluated on"
                f" ({format_percent(held / all_goals)}): on these its answers show what it was taught, not what it"
                " learned."
            )


def _final_steps(columns: Sequence[RunColumn]) -> Iterator[str]:
    trained = [column for column in columns if column.final_step is not None]
    if len({column.final_step for column in trained}) > 1:
        steps = join_words([f"{column.name} step {column.final_step} of {column.num_steps}" for column in trained])
        held_out = any(column.held_out_loss is not None for column in trained)
        reason = ": a run with held-out batches keeps the step of its lowest held-out loss" if held_out else ""
        yield f"The final models are of different steps ({steps}){reason}."


def _unevaluated(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        if column.evaluation is None and column.imported is None:
            yield f"{column.name} was not evaluated: nothing is known of its safety and capability."


def _unscored(columns: Sequence[RunColumn]) -> Iterator[str]:
    for column in columns:
        if column.evaluation is not None:
            allowed = format_percent(column.evaluation.max_unscored)
            for kind, (unscored, num) in column.evaluation.overly_unscored.items():
                yield (
                    f"{column.name} left {unscored} of {num} answers to {kind} items without a verdict, more than the"
                    f" {allowed} it allowed: its rates are not to be relied on."
                )


def _router_training(columns: Sequence[RunColumn]) -> Iterator[str]:
    """What an arm was given beside the steps that all arms have; of joint steps always, as they are no one's else."""
    everywhere = all(column.routers for column in columns if column.is_trained_here)
    for column in columns:
        if (routers := column.routers) is not None and (routers.joint or not everywhere):
            final = column.final_router_step
            kept = "" if final == routers.num_steps else f" (its final model is of step {final} of these)"
            spent = f"steps{kept}, with forwards over {column.num_router_tokens:,} tokens of the same goals"
            if routers.joint:
                yield (
                    f"{column.name} trained its routers jointly with its experts, by cross-entropy +"
                    f" {routers.joint_weight:g} x consistency, in {routers.num_steps} {spent} beside: a difference to"
                    " another arm may be theirs."
                )
                continue
            if routers.alone:
                yield f"{column.name} trained its routers alone, in {routers.num_steps} {spent}, and no expert."
                continue
            yield (
                f"{column.name} also trained its routers, in {routers.num_steps} further {spent}: a difference to an"
                " arm without them may be theirs."
            )


def _changed_judges(columns: Sequence[RunColumn]) -> Iterator[str]:
    changed = changed_opinions([column.evaluation for column in columns if column.evaluation])
    for judge in sorted({opinion[1] for name in changed if (opinion := opinion_of(name))}):
        yield f"The judge {judge!r} changed between the runs, so what it says is not compared."


def _cost_sentences(a: str, b: str, evidence: Evidence) -> Iterator[str]:
    """What training two arms cost; empty where the cost of one of them is not known."""
    costs = [_cost(evidence.columns_of(name), name) for name in (b, a)]
    if all(costs):
        yield f"Cost: {'; '.join(costs)}."


def _cost(columns: Sequence[RunColumn], name: str) -> str:
    """What an arm trained and what it cost (the mean of its runs); empty where nothing is known."""
    first, parts = columns[0], []
    if first.trainable_params is not None and first.trainable_ratio is not None:
        parts.append(f"{format_percent(first.trainable_ratio)} of the parameters ({first.trainable_params:,})")
    if seconds := mean_over_runs([column.seconds_training for column in columns]):
        parts.append(f"{seconds:.1f} s")
    if peak := mean_over_runs([column.peak_memory_bytes for column in columns]):
        parts.append(f"{peak / 1e9:.2f} GB of peak memory")
    return (
        f"{name} trained {join_words(parts)}{f' (means of {len(columns)} runs)' * (len(columns) > 1)}" if parts else ""
    )
