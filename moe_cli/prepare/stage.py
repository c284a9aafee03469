"""`moe prepare`: which experts are more active while the model complies inside attacks?

Batches are made once, here, and every count in the summary is of what was written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from moe_cli.artifacts import ScratchFiles, Store, open_run
from moe_cli.artifacts.journal import ANSWERS, drop_journals, resumable
from moe_cli.config import MoeConfig
from moe_cli.judges.catalog import judges_of
from moe_cli.judges.judge import Judge
from moe_cli.model.answering import answer_all
from moe_cli.model.chat_endpoint import ChatEndpoint, endpoint_of_prepare
from moe_cli.model.engines import EngineOf, answering_engine, writing_engine
from moe_cli.model.load import LoadedModel
from moe_cli.model.same_machine import require_same_directory, require_same_model, require_same_setup
from moe_cli.prepare.batches import BatchPlan, Composition, examples_of_batches, plan_kept
from moe_cli.prepare.filtering import (
    Asked,
    Jury,
    Question,
    answered_prompts,
    exchanges_of,
    jury_of,
    questions_of,
    refuse_unable,
    verdicts_on,
)
from moe_cli.prepare.generation import Answers, ModelHolder, answer_prompts
from moe_cli.prepare.harmless import HarmlessPrompts, harmless_of, harmless_of_pairs, harmless_prompts
from moe_cli.prepare.prepare_files import write_pickles, write_prepared
from moe_cli.prepare.prepare_summary import prepare_summary, with_batches
from moe_cli.prepare.prompt_sources import PromptSources, composition_of, offered_by
from moe_cli.prepare.ranking import Floats
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
from moe_cli.ranks import is_first, led, on_first
from moe_cli.records import (
    AnsweredPrompt,
    Generation,
    ModelIdentity,
    PrepareSummary,
    PromptPair,
    RoutingCounts,
    Selection,
    TrainingExample,
    Verdict,
)
from moe_cli.records.manifest import Notify
from moe_cli.rounds import alone

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

    Several processes (`moe_cli.ranks`) call it at once: they share out the batches of answers, of replays and of
    gradients. The first does the rest alone, and writes all of it.

    Raises:
        UsageError: bad pairs, no full batch, a model without experts, a judge that is not there or that no judge tells
            refusals, or an endpoint that is not named or refuses.
        ArtifactError: the output directory is taken.
        EnvironmentFaultError: an endpoint cannot be reached or keeps failing.
    """
    require_same_setup("prepare", config)
    on_first(store.refuse_unwritable)
    settings = config.prepare
    judges = judges_of(settings.judges, config.judge)
    offered = alone(lambda: offered_by(config))
    parts = composition_of(config, offered.benign)
    endpoint = endpoint_of_prepare(config)
    refuse_unreadable_selection(settings.selection_file)
    questions = questions_of(offered.pairs, offered.benign if parts.num_benign else ())
    on_first(lambda: refuse_unable(judges))
    output = settings.output_dir
    run = open_run(output, "prepare", config, resume=resume, scratch=SCRATCH)
    with led(run) as writer, resumable(output, ANSWERS):
        require_same_directory(writer)
        model = ModelHolder(config.model)
        require_same_model(model.loaded())
        base, params_per_expert = model.identity, model.loaded().layers[0].params_per_expert
        selection_rule(settings, base, params_per_expert)  # refuses before the long work
        started_at = time.monotonic()
        answers = answer_prompts(questions, config, engine_of, model.loaded(), endpoint, notify)
        answered_at = time.monotonic()
        judging = partial(_judged, config, offered, parts, questions, answers.by_id, judges)
        judged = alone(lambda: judging(model, endpoint, notify))
        plans, batched = judged.plans, [pair for plan in judged.plans for pair in plan.pairs]
        brought = _brought(config, model, engine_of, endpoint, batched, notify)
        harmless = _harmless(config, offered, judged.rows, answers.by_id, len(batched)) + brought
        loaded = model.loaded()
        replay_started_at = time.monotonic()
        counts = _counts(config, loaded, batched, answers.by_id, harmless, notify)
        replay_ended_at = time.monotonic()
        batches = [range(b * parts.num_pairs, (b + 1) * parts.num_pairs) for b in range(len(plans))]
        rows = with_batches(judged.rows, plans)
        examples = examples_of_batches(plans, parts, judged.refusals.targets, rows)
        counts = replace(counts, gradients=_gradients(config, loaded, examples, notify))
        times = None if writer.resumed else answered_at - started_at, replay_ended_at - replay_started_at

        def conclude() -> tuple[Selection, PrepareSummary]:
            result = find_experts(config, base, params_per_expert, counts, batches)
            summary = _summary(config, base, offered, answers, judged, rows, parts, *times)
            write_prepared(writer.path, rows, counts, result, examples, summary)
            if settings.pickle:
                write_pickles(writer.path, base.name, rows, counts, result.masks, examples)
            return result.selection, summary

        selection, summary = alone(conclude)
        if is_first():
            made_on = {"base_fingerprint": base.fingerprint, "model_name": config.model.name}
            store.add(writer, **made_on, device=str(loaded.device))
    return PrepareOutput(output, summary, selection)


@dataclass(frozen=True, slots=True)
class JudgedPrompts:
    """What follows from the verdicts."""

    rows: list[AnsweredPrompt]
    plans: tuple[BatchPlan, ...]
    refusals: Refusals
    jury: Jury  # without its judges


def _judged(
    config: MoeConfig,
    offered: PromptSources,
    parts: Composition,
    questions: Sequence[Question],
    answers: Mapping[str, Generation],
    judges: Sequence[Judge],
    model: ModelHolder,
    endpoint: ChatEndpoint | None,
    notify: Notify,
) -> JudgedPrompts:
    """Judge the answers, and batch what is kept; an endpoint may write refusals, which are judged, too."""
    jury = jury_of(judges)
    verdicts = _verdicts(exchanges_of(questions, answers), jury, model, config.prepare.output_dir, notify)
    rows = answered_prompts(questions, answers, verdicts, by_harm=jury.by_harm, keep_all=config.prepare.keep_all)
    plans = plan_kept(config, offered.pairs, offered.benign, parts, rows, by_harm=jury.by_harm)
    batched = [pair for plan in plans for pair in plan.pairs]
    written = _written(config, model, endpoint, batched, jury, notify)
    return JudgedPrompts(rows, plans, refusal_targets(rows, offered.refusals, written), replace(jury, judges=()))


def _counts(
    config: MoeConfig,
    loaded: LoadedModel,
    batched: Sequence[PromptPair],
    answers: Mapping[str, Generation],
    harmless: Sequence[HarmlessPrompts],
    notify: Notify,
) -> RoutingCounts:
    """The routing counts of the batched pairs and the harmless prompts, in files of the first process."""
    settings = config.prepare
    return count_routing(
        loaded,
        batched,
        answers,
        harmless,
        settings.output_dir if is_first() else None,
        crossed=settings.extra_replays,
        reasoning=settings.in_part,
        batch_size=settings.generation_batch_size,
        batch_tokens=settings.generation_tokens,
        notify=notify,
    )


def _gradients(
    config: MoeConfig, loaded: LoadedModel, examples: Sequence[TrainingExample], notify: Notify
) -> Floats | None:
    """The gradients of the refusals, where they are measured."""
    if not config.prepare.measures_gradients:
        return None
    return refusal_gradients(loaded, examples, max_length=config.train.max_length, notify=notify)


def _summary(
    config: MoeConfig,
    base: ModelIdentity,
    offered: PromptSources,
    answers: Answers,
    judged: JudgedPrompts,
    rows: Sequence[AnsweredPrompt],
    parts: Composition,
    seconds_generate: float | None,
    seconds_routing: float,
) -> PrepareSummary:
    return prepare_summary(
        base,
        offered.sources,
        answers.settings,
        rows,
        judged.plans,
        parts,
        judged.refusals,
        judged.jury,
        config=config,
        num_answers_kept=answers.num_kept,
        seconds_generate=seconds_generate,
        seconds_routing=seconds_routing,
    )


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
