"""Selects anew in the middle of a training: the prepare run's own answers, replayed through the model as it is now.

Answers, batches and rule are those of the prepare run; only the routing is counted again. Nothing is generated, no
judge is asked, and the model is left as it was. The ids of an answer are made from its text. The budget holds for all
experts that any round trains: further experts are taken in the order of their risk differences while there is room, and
those for which there is none are left out of the batches.

Letters: L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from moe_cli.artifacts import FinishedRun, layout
from moe_cli.artifacts.files import naming_file
from moe_cli.config import MoeConfig, load_config
from moe_cli.config.sections import conditions_of
from moe_cli.errors import UsageError
from moe_cli.model.chat import encode_answered
from moe_cli.model.load import LoadedModel
from moe_cli.prepare.methods import MethodInputs
from moe_cli.prepare.replays import count_routing
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
    RoutingCounts,
    Selection,
)
from moe_cli.records.inputs import form_id
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone

FOLLOWING = ("risk_diff", "stability", "esft-token", "esft-gate")  # methods that the routing alone decides

Batches = tuple[tuple[Expert, ...], ...]


class AnswerReplay:
    """What an alternating run selects its experts anew with."""

    def refuse(self, prepared: FinishedRun) -> None:
        """As `refuse_fixed_selection`."""
        refuse_fixed_selection(prepared)

    def select(
        self, loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
    ) -> Batches:
        """As `replayed_selection`."""
        return replayed_selection(loaded, prepared, trained, notify)


def refuse_fixed_selection(prepared: FinishedRun) -> None:
    """Refuse a selection that the routing of pairs with their own answers does not decide.

    Raises:
        UsageError: its method, or one of its conditions, needs more.
    """
    settings = _settings_of(prepared).prepare
    wanted = {condition.quantity for condition in conditions_of(settings.select_by)} & {"text", "prompt", "did"}
    if settings.method not in FOLLOWING or wanted:
        what = f"the conditions on {', '.join(sorted(wanted))}" if wanted else f"the method {settings.method}"
        raise UsageError(
            f"{prepared.path} selects by {what}, which a replay of its answers does not decide",
            hint=f"train with --reselect none, or select with one of {', '.join(FOLLOWING)}",
        )


def replayed_selection(
    loaded: LoadedModel, prepared: FinishedRun, trained: Collection[Expert], notify: Notify
) -> Batches:
    """The experts of every batch by the routing of `loaded` as it is now; `trained` are those of earlier rounds.

    Several processes call it at once and share out the replays.

    Raises:
        UsageError: as `refuse_fixed_selection`.
        ArtifactError: a file of the prepare run is damaged.
    """
    config = _settings_of(prepared)
    before = prepared.record(layout.SELECTION, Selection)
    file = prepared.file(layout.routing_counts(before.base.name))
    pairs, answers = _answered_pairs(loaded, prepared, before.base.name, read_counts(file))
    counts = count_routing(
        loaded,
        pairs,
        answers,
        batch_size=config.prepare.generation_batch_size,
        batch_tokens=config.prepare.generation_tokens,
        notify=notify,
    )

    def select() -> Batches:
        summary = prepared.record(layout.PREPARE_SUMMARY, PrepareSummary)
        return _selected(config, before, counts, batches_of(counts, summary, file), trained)

    return alone(select)


def _selected(
    config: MoeConfig,
    before: Selection,
    counts: RoutingCounts,
    batches: Sequence[Sequence[int]],
    trained: Collection[Expert],
) -> Batches:
    """The experts of every batch, without those for which the budget has no room."""
    base, settings = before.base, config.prepare
    counts = counts_of_part(counts, settings.answer_part)
    rule = selection_rule(settings, base, before.params_per_expert)
    risk = estimate_risk_differences(counts, batches, rule, resamples=settings.resamples, seed=config.seed)
    chosen = chosen_by(rule, MethodInputs(counts, used_pairs(batches), risk, config.seed))
    pooled_X = risk.pooled.ravel()
    ranked = as_experts(sorted(chosen.union, key=lambda x: (-pooled_X[x], x)), base.layers, base.num_experts)
    new = [expert for expert in ranked if expert not in trained]
    room = len(new) if rule.max_candidates is None else max(0, rule.max_candidates - len(trained))
    admitted = set(trained) | set(new[:room])
    of_batches = [as_experts(batch, base.layers, base.num_experts) for batch in chosen.batches]
    return tuple(tuple(expert for expert in batch if expert in admitted) for batch in of_batches)


def _settings_of(prepared: FinishedRun) -> MoeConfig:
    """The settings that the prepare run was made with."""
    return load_config(file=prepared.file(layout.CONFIG), environment={}, assignments=("registry=null",), flags={})


def _answered_pairs(
    loaded: LoadedModel, prepared: FinishedRun, model_name: str, stored: RoutingCounts
) -> tuple[list[PromptPair], dict[str, Generation]]:
    """The batched pairs in the order of the stored counts, and the answers to their forms by `form_id`."""
    forms = _forms_of(prepared.file(layout.batch_outputs(model_name)))
    pairs, answers = [], {}
    for pair_id, cluster in zip(stored.pair_ids, stored.clusters, strict=True):
        safe, unsafe = (forms[form_id(pair_id, side)] for side in SIDES)
        pairs.append(
            PromptPair(id=pair_id, goal=cluster, cluster=cluster, safe=safe[:-1], unsafe=unsafe[:-1], attack=None)
        )
        for side, messages in zip(SIDES, (safe, unsafe), strict=True):
            answers[form_id(pair_id, side)] = _generation(loaded, form_id(pair_id, side), messages)
    return pairs, answers


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
