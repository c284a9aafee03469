"""Selects anew in the middle of a training: the prepare run's own answers, replayed through the model as it is now.

Answers, batches and rule are those of the prepare run; only the routing is counted again, and for `gradient` the
gradients of its refusals. Nothing is generated, no judge is asked, and the model is left as it was. The ids of an
answer are made from its text. The budget holds for all experts that any round trains: further experts are taken in the
order of what the rule ranks by while there is room, and those for which there is none are left out of the batches.

Letters: L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from moe_cli.artifacts import FinishedRun, layout
from moe_cli.artifacts.files import naming_file
from moe_cli.codec import decode_lines
from moe_cli.config import MoeConfig, load_config
from moe_cli.config.sections import conditions_of
from moe_cli.errors import UsageError
from moe_cli.model.chat import encode_answered
from moe_cli.model.load import LoadedModel
from moe_cli.prepare.methods import MethodInputs
from moe_cli.prepare.ranking import Floats
from moe_cli.prepare.replays import count_routing, refusal_gradients
from moe_cli.prepare.reselect import batches_of
from moe_cli.prepare.risk import counts_of_part
from moe_cli.prepare.routing_file import read_counts
from moe_cli.prepare.selection import as_experts
from moe_cli.prepare.selection_evidence import chosen_by, selection_rule
from moe_cli.prepare.uncertainty import estimate_risk_differences, used_pairs
from moe_cli.records import (
    SIDES,
    Expert,
    Generation,
    Message,
    PrepareSummary,
    PromptPair,
    RoundSelection,
    RoutingCounts,
    Selection,
    TrainingExample,
)
from moe_cli.records.inputs import form_id
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone

FOLLOWING = ("risk_diff", "stability", "esft-token", "esft-gate")  # methods that the routing alone decides


def refuse_fixed_selection(prepared: FinishedRun) -> None:
    """Refuse a selection that the routing of pairs with their own answers does not decide.

    Raises:
        UsageError: its method, or one of its conditions, needs more.
    """
    method = settings_of(prepared).prepare.method
    if method not in FOLLOWING:
        other = "--reselect gradient, which measures it anew, or " if method == "gradient" else ""
        raise UsageError(
            f"{prepared.path} selects by the method {method}, which its answers' routing does not decide",
            hint=f"train with {other}--reselect none, or select with one of {', '.join(FOLLOWING)}",
        )
    _refuse_conditions_on_parts(prepared)


def _refuse_conditions_on_parts(prepared: FinishedRun) -> None:
    compared = {condition.quantity for condition in conditions_of(settings_of(prepared).prepare.select_by)}
    if wanted := sorted(compared & {"text", "prompt", "did"}):
        raise UsageError(
            f"{prepared.path} selects by the conditions on {', '.join(wanted)}, which its answers' routing does not "
            "decide",
            hint="train with --reselect none, or select without these conditions",
        )


def refuse_no_budget(prepared: FinishedRun) -> None:
    """Refuse a prepare run without a budget, of which gradients would take every expert.

    Raises:
        UsageError: it has none, or a condition needs more than its answers' routing.
    """
    if settings_of(prepared).prepare.budget is None:
        raise UsageError(
            f"{prepared.path} selects without a budget, and by their gradients alone that is every expert",
            hint="train with --reselect none, or select within a budget: moe select PREPARED --budget 5%",
        )
    _refuse_conditions_on_parts(prepared)


def replayed_selection(
    loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
) -> RoundSelection:
    """The experts of every batch by the routing of `loaded` as it is now; `trained` are those of earlier rounds.

    Several processes call it at once and share out the replays.

    Raises:
        UsageError: as `refuse_fixed_selection`.
        ArtifactError: a file of the prepare run is damaged.
    """
    return _selection(settings_of(prepared), loaded, prepared, trained, notify)


def gradient_selection(
    loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
) -> RoundSelection:
    """As `replayed_selection`, by the method `gradient`: the refusals' gradients of `loaded` as it is now."""
    config = settings_of(prepared)
    ranked = config.prepare.model_copy(update={"method": "gradient", "selection_file": None})
    return _selection(config.model_copy(update={"prepare": ranked}), loaded, prepared, trained, notify)


def _selection(
    config: MoeConfig, loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
) -> RoundSelection:
    """What the rule of these settings selects from the prepare run's own answers."""
    before = prepared.record(layout.SELECTION, Selection)
    forms = _forms_of(prepared.file(layout.batch_outputs(before.base.name)))
    batches = batched_pairs(prepared)
    pairs = [pair for batch in batches for pair in batch]
    answers = {
        name: _generation(loaded, name, forms[name]) for pair in pairs for name in (form_id(pair.id, s) for s in SIDES)
    }
    counts = routing_of(config, loaded, pairs, answers, notify)
    if config.prepare.method == "gradient":
        counts = replace(counts, gradients=_gradients(config, loaded, prepared, before, notify))
    size = len(batches[0])
    places = [range(index * size, (index + 1) * size) for index in range(len(batches))]
    return alone(lambda: select_within_budget(config, before, counts, places, trained))


def _gradients(
    config: MoeConfig, loaded: LoadedModel, prepared: FinishedRun, before: Selection, notify: Notify
) -> Floats:
    """The gradients of the prepare run's refusals, as `moe prepare` measures them."""
    examples = list(decode_lines(TrainingExample, prepared.file(layout.training_examples(before.base.name))))
    return refusal_gradients(loaded, examples, max_length=config.train.max_length, notify=notify)


def routing_of(
    config: MoeConfig,
    loaded: LoadedModel,
    pairs: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    notify: Notify,
) -> RoutingCounts:
    """Routing counts of these pairs with their answers (by `form_id`); of several processes the first has them."""
    return count_routing(
        loaded,
        pairs,
        answers,
        reasoning=config.prepare.in_part,
        batch_size=config.prepare.generation_batch_size,
        batch_tokens=config.prepare.generation_tokens,
        notify=notify,
    )


def select_within_budget(
    config: MoeConfig,
    before: Selection,
    counts: RoutingCounts,
    batches: Sequence[Sequence[int]],
    trained: Collection[Expert],
) -> RoundSelection:
    """The experts of every batch (indices into `counts`), without those for which the budget has no room."""
    base, settings = before.base, config.prepare
    counts = counts_of_part(counts, settings.answer_part)
    rule = selection_rule(settings, base, before.params_per_expert)
    risk = estimate_risk_differences(counts, batches, rule, resamples=settings.resamples, seed=config.seed)
    chosen = chosen_by(rule, MethodInputs(counts, used_pairs(batches), risk, config.seed))
    scores_X = risk.pooled.ravel() if counts.gradients is None else counts.gradients.mean(0).ravel()
    ranked = as_experts(sorted(chosen.union, key=lambda x: (-scores_X[x], x)), base.layers, base.num_experts)
    new = [expert for expert in ranked if expert not in trained]
    room = len(new) if rule.max_candidates is None else max(0, rule.max_candidates - len(trained))
    admitted = set(trained) | set(new[:room])
    of_batches = [as_experts(batch, base.layers, base.num_experts) for batch in chosen.batches]
    return RoundSelection(
        batches=tuple(tuple(expert for expert in batch if expert in admitted) for batch in of_batches),
        num_pairs=len(counts.pair_ids),
        num_left_out=len(new[room:]),
    )


def settings_of(prepared: FinishedRun) -> MoeConfig:
    """The settings that the prepare run was made with."""
    return load_config(file=prepared.file(layout.CONFIG), environment={}, assignments=("registry=null",), flags={})


def batched_pairs(prepared: FinishedRun) -> tuple[tuple[PromptPair, ...], ...]:
    """The pairs of every batch, in the order of the stored counts.

    Raises:
        ArtifactError: a file of the prepare run is damaged.
    """
    before = prepared.record(layout.SELECTION, Selection)
    file = prepared.file(layout.routing_counts(before.base.name))
    stored = read_counts(file)
    forms = _forms_of(prepared.file(layout.batch_outputs(before.base.name)))
    pairs = [
        PromptPair(
            id=name,
            goal=cluster,
            cluster=cluster,
            safe=forms[form_id(name, "safe")][:-1],
            unsafe=forms[form_id(name, "unsafe")][:-1],
            attack=None,
        )
        for name, cluster in zip(stored.pair_ids, stored.clusters, strict=True)
    ]
    batches = batches_of(stored, prepared.record(layout.PREPARE_SUMMARY, PrepareSummary), file)
    return tuple(tuple(pairs[place] for place in batch) for batch in batches)


def _generation(loaded: LoadedModel, name: str, messages: tuple[Message, ...]) -> Generation:
    encoded = encode_answered(loaded.tokenizer, messages)
    return Generation(
        prompt_id=name,
        text=messages[-1].content,
        token_ids=encoded.token_ids[encoded.num_prompt :],
        num_prompt_tokens=encoded.num_prompt,
        finished=True,
        answer_ids="retokenised",
    )


def _forms_of(file: Path) -> dict[str, tuple[Message, ...]]:
    """Every form of a pair with the model's answer as its last message, by `form_id`."""
    import pyarrow.parquet as pq  # here, as every other command starts without it

    columns = ["prompt_id", "messages", "answer"]
    with naming_file(file), file.open("rb") as content:
        rows = pq.read_table(content, columns=columns, filters=[("side", "in", list(SIDES))]).to_pylist()
        return {
            row["prompt_id"]: (
                *(Message(**turn) for turn in row["messages"]),
                Message(role="assistant", content=row["answer"]),
            )
            for row in rows
        }
