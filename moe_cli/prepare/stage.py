"""`moe prepare`: which experts are more active while the model complies inside attacks?

Batches are made once, here, and every count in the summary is of what was written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_cli.artifacts import ScratchFiles, Store, open_run
from moe_cli.artifacts.journal import ANSWERS, VERDICTS, drop_journals, resumable
from moe_cli.config import MoeConfig
from moe_cli.judges.catalog import judges_of
from moe_cli.model.answering import answer_all
from moe_cli.model.chat_endpoint import ChatEndpoint, endpoint_of
from moe_cli.model.engines import EngineOf, answering_engine, writing_engine
from moe_cli.prepare.batches import BatchPlan, Composition, batch_examples, plan_batches, refuse_too_few
from moe_cli.prepare.filtering import (
    BENIGN_CUT_OFF,
    Asked,
    Jury,
    answered_prompts,
    drop_reasons,
    exchanges_of,
    is_unscored,
    jury_of,
    questions_of,
    refuse_unable,
    verdicts_on,
)
from moe_cli.prepare.generation import BENIGN_OPTION, ModelHolder, answer_prompts
from moe_cli.prepare.harmless import HarmlessPrompts, harmless_of, harmless_of_pairs, harmless_prompts
from moe_cli.prepare.prepare_files import write_pickles, write_prepared
from moe_cli.prepare.prepare_summary import prepare_summary, with_batches
from moe_cli.prepare.prompt_sources import PromptSources, composition_of, offered_by
from moe_cli.prepare.refusals import (
    EndpointRefusals,
    Refusals,
    refusal_prompts,
    refusal_targets,
    written_exchanges,
    written_refusals,
)
from moe_cli.prepare.replays import count_routing, refusal_gradients
from moe_cli.prepare.selection_evidence import find_experts, selection_rule
from moe_cli.prepare.selection_file import refuse_unreadable_selection
from moe_cli.records import AnsweredPrompt, Generation, PrepareSummary, PromptPair, Selection, TrainingExample, Verdict
from moe_cli.records.manifest import Notify

SCRATCH = ScratchFiles(clear=drop_journals)


@dataclass(frozen=True, slots=True)
class PrepareOutput:
    """Result of `moe prepare`."""

    path: Path
    summary: PrepareSummary
    selection: Selection


def run(
    config: MoeConfig,
    store: Store,
    notify: Notify,
    *,
    resume: bool = False,
    engine_of: EngineOf = answering_engine,
) -> PrepareOutput:
    """Answer, judge, filter, batch, count, select, write; `engine_of` gives the engine that answers.

    Raises:
        UsageError: bad pairs, no full batch, a model without experts, a judge that is not there or that no judge tells
            refusals, or an endpoint that is not named or refuses.
        ArtifactError: the output directory is taken.
        EnvironmentFaultError: an endpoint cannot be reached or keeps failing.
    """
    store.refuse_unwritable()
    settings = config.prepare
    judges = judges_of(settings.judges, config.judge)
    offered = offered_by(config)
    parts = composition_of(config, offered.benign)
    texts = offered.refusals
    endpoint = endpoint_of(config)
    refuse_unreadable_selection(settings.selection_file)
    questions = questions_of(offered.pairs, offered.benign if parts.num_benign else ())
    refuse_unable(judges)
    output = settings.output_dir
    with open_run(output, "prepare", config, resume=resume, scratch=SCRATCH) as writer, resumable(output, ANSWERS):
        model = ModelHolder(config.model)
        base, params_per_expert = model.identity, model.loaded().layers[0].params_per_expert
        selection_rule(settings, base, params_per_expert)  # refuses before the long work
        started_at = time.monotonic()
        answers = answer_prompts(questions, config, engine_of, model.loaded(), endpoint, notify)
        answered_at = time.monotonic()
        jury = jury_of(judges)
        verdicts = _verdicts(exchanges_of(questions, answers.by_id), jury, model, output, notify)
        rows = answered_prompts(questions, answers.by_id, verdicts, by_harm=jury.by_harm, keep_all=settings.keep_all)
        plans = _plans(config, offered, parts, rows, by_harm=jury.by_harm)
        batched = [pair for plan in plans for pair in plan.pairs]
        refusals = refusal_targets(rows, texts, _written(config, model, endpoint, batched, jury, notify))
        brought = _brought(config, model, engine_of, endpoint, batched, notify)
        harmless = _harmless(config, offered, rows, answers.by_id, len(batched)) + brought
        loaded = model.loaded()
        replay_started_at = time.monotonic()
        sizes = {"batch_size": settings.generation_batch_size, "batch_tokens": settings.generation_tokens}
        counts = count_routing(
            loaded, batched, answers.by_id, harmless, output, crossed=settings.extra_replays, **sizes, notify=notify
        )
        replay_ended_at = time.monotonic()
        batches = [range(b * parts.num_pairs, (b + 1) * parts.num_pairs) for b in range(len(plans))]
        rows = with_batches(rows, plans)
        examples = _examples(plans, parts, refusals, rows)
        if settings.measures_gradients:
            norms = refusal_gradients(loaded, examples, max_length=config.train.max_length, notify=notify)
            counts = replace(counts, gradients=norms)
        result = find_experts(config, base, params_per_expert, counts, batches)
        summary = prepare_summary(
            base,
            offered.sources,
            answers.settings,
            rows,
            plans,
            parts,
            refusals,
            jury,
            config=config,
            num_answers_kept=answers.num_kept,
            seconds_generate=None if writer.resumed else answered_at - started_at,
            seconds_routing=replay_ended_at - replay_started_at,
        )
        write_prepared(writer.path, rows, counts, result, examples, summary)
        if settings.pickle:
            write_pickles(writer.path, base.name, rows, counts, result.masks, examples)
        store.add(
            writer,
            base_fingerprint=base.fingerprint,
            model_name=config.model.name,
            device=str(loaded.device),
        )
    return PrepareOutput(output, summary, result.selection)


def _verdicts(
    exchanges: Mapping[str, Asked], jury: Jury, model: ModelHolder, output: Path, notify: Notify
) -> dict[str, Verdict]:
    """The verdict on every answer; the model is released first where a judge holds weights."""
    if any(judge.holds_weights for judge in jury.deciding):
        model.release()
    return verdicts_on(exchanges, jury, output, notify)


def _harmless(
    config: MoeConfig,
    offered: PromptSources,
    rows: Sequence[AnsweredPrompt],
    answers: Mapping[str, Generation],
    num_pairs: int,
) -> list[HarmlessPrompts]:
    """The benign prompts that are replayed in both forms; none where the extra replays are off."""
    if not config.prepare.extra_replays:
        return []
    return harmless_of(offered.benign, rows, answers, most=num_pairs, seed=config.seed)


def _brought(
    config: MoeConfig,
    model: ModelHolder,
    engine_of: EngineOf,
    endpoint: ChatEndpoint | None,
    pairs: Sequence[PromptPair],
    notify: Notify,
) -> list[HarmlessPrompts]:
    """The answered harmless prompts that the pairs bring; the only answers generated just for replays."""
    prompts = harmless_prompts(pairs) if config.prepare.extra_replays else []
    if not prompts:
        return []
    engine = engine_of(config, model.loaded(), endpoint)
    answers = answer_all(engine, prompts, config.prepare.output_dir, notify=notify, task="harmless")
    return harmless_of_pairs(pairs, answers)


def _plans(
    config: MoeConfig, offered: PromptSources, parts: Composition, rows: Sequence[AnsweredPrompt], *, by_harm: bool
) -> tuple[BatchPlan, ...]:
    """The batches of the kept pairs and prompts.

    Raises:
        UsageError: they make no full batch.
    """
    kept = {(row.source_id, row.side) for row in rows if row.kept}
    pairs = [pair for pair in offered.pairs if (pair.id, "safe") in kept]
    benign = [prompt for prompt in offered.benign if (prompt.id, "benign") in kept]
    advice = _cut_off_advice(rows, config.prepare.benign_limit) if len(benign) < parts.num_benign else ""
    if any(is_unscored(row, by_harm=by_harm) for row in rows):
        advice += f"read why there is no verdict in {config.prepare.output_dir}/{VERDICTS}; or "
    refuse_too_few(len(pairs), len(benign), parts, dropped=drop_reasons(rows), advice=advice)
    return plan_batches(pairs, benign, parts, seed=config.seed)


def _cut_off_advice(rows: Sequence[AnsweredPrompt], limit: int) -> str:
    """Start of the hint where benign answers were cut off."""
    benign = [row for row in rows if row.side == "benign"]
    if not (num_cut_off := sum(row.reason == BENIGN_CUT_OFF for row in benign)):
        return ""
    return (
        f"raise {BENIGN_OPTION} ({num_cut_off} of {len(benign)} benign answers were cut off at {limit} tokens) and add "
        "--resume, which keeps the answers that had ended; or "
    )


def _examples(
    plans: Sequence[BatchPlan], parts: Composition, refusals: Refusals, rows: Sequence[AnsweredPrompt]
) -> list[TrainingExample]:
    """The training examples of all batches, in order."""
    own_answers = {row.source_id: row.answer for row in rows if row.kept and row.side == "benign"}
    return [
        example
        for index, plan in enumerate(plans)
        for example in batch_examples(plan, index, parts, refusals.targets, own_answers)
    ]


def _written(
    config: MoeConfig,
    model: ModelHolder,
    endpoint: ChatEndpoint | None,
    pairs: Sequence[PromptPair],
    jury: Jury,
    notify: Notify,
) -> EndpointRefusals | None:
    """Refusals that the endpoint writes for these pairs; None where the settings do not ask for them."""
    if endpoint is None or not config.prepare.refusals_are_written:
        return None
    engine, output = writing_engine(config, model.loaded(), endpoint), config.prepare.output_dir
    answers = answer_all(engine, refusal_prompts(pairs), output, notify=notify, task="refusals")
    del engine  # which holds the model
    verdicts = _verdicts(written_exchanges(pairs, answers), jury, model, output, notify)
    return written_refusals(pairs, answers, verdicts)
