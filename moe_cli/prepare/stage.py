"""`moe prepare`: which experts are more active when the model does harm?

Comes in: a config. Goes out: a prepare run on disk, its `PrepareSummary` and its `Selection`. Always holds: batches are
made once, here, and every count in the summary is of what was written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from moe_cli.artifacts import Store, open_run
from moe_cli.artifacts.interruption import resumable
from moe_cli.artifacts.journal import ANSWERS, drop_answer_journals
from moe_cli.config import MoeConfig
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.answering import answer_all
from moe_cli.model.chat_endpoint import ChatEndpoint
from moe_cli.model.engine import Prompt
from moe_cli.model.engines import EngineOf, answering_engine, endpoint_of, writing_engine
from moe_cli.model.load import LoadedModel, load_model
from moe_cli.prepare.batches import BatchPlan, Composition, batch_examples, plan_batches, refuse_too_few
from moe_cli.prepare.counting import count_routing
from moe_cli.prepare.evidence import find_experts, selection_rule
from moe_cli.prepare.filtering import answered_prompts, drop_reasons, questions_of
from moe_cli.prepare.gradients import refusal_gradients
from moe_cli.prepare.output import write_prepared
from moe_cli.prepare.pickles import write_pickles
from moe_cli.prepare.refusals import (
    Refusals,
    Written,
    refusal_prompts,
    refusal_targets,
    written_refusals,
)
from moe_cli.prepare.sources import composition_of, offered_by
from moe_cli.prepare.summary import prepare_summary, with_batches
from moe_cli.records import PrepareSummary, PromptPair, Selection, TrainingExample

Notify = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `moe prepare` made."""

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
) -> Prepared:
    """Answer, filter, batch, count, select, write; `engine_of` makes what answers.

    Raises:
        UsageError: bad pairs, no full batch, a model without experts, or an endpoint that is not named or refuses.
        ArtifactError: the output directory is taken.
        EnvironmentFaultError: the endpoint cannot be reached or keeps failing.
    """
    store.refuse_unwritable()
    settings = config.prepare
    offered = offered_by(config)
    pairs, benign = offered.pairs, offered.benign
    parts = composition_of(config, benign)
    texts = offered.refusals
    endpoint = endpoint_of(config)
    questions = questions_of(pairs, benign if parts.num_benign else ())
    output = settings.output_dir
    with open_run(output, "prepare", config, resume=resume) as writer, resumable(output, ANSWERS):
        loaded = load_model(config.model)
        selection_rule(settings, loaded.identity, loaded.layers[0].params_per_expert)  # refuses before the long work
        started = time.monotonic()
        engine = engine_of(config, loaded, endpoint)
        prompts = [Prompt(question.id, question.messages) for question in questions]
        answers = answer_all(engine, prompts, output, notify=notify)
        answered = time.monotonic()
        rows = answered_prompts(questions, answers, KeywordJudge(), keep_all=settings.keep_all)
        own_answers = {row.source_id: row.answer for row in rows if row.kept and row.side == "benign"}
        kept = {row.source_id for row in rows if row.kept and row.side == "safe"}
        kept_pairs = [pair for pair in pairs if pair.id in kept]
        kept_benign = [prompt for prompt in benign if prompt.id in own_answers]
        refuse_too_few(len(kept_pairs), len(kept_benign), parts, dropped=drop_reasons(rows))
        plans = plan_batches(kept_pairs, kept_benign, parts, seed=config.seed)
        batched = [pair for plan in plans for pair in plan.pairs]
        refusals = refusal_targets(rows, texts, _written(config, loaded, endpoint, batched, notify))
        replayed = time.monotonic()
        sizes = {"batch_size": settings.generation_batch_size, "batch_tokens": settings.generation_tokens}
        counts = count_routing(loaded, batched, answers, **sizes, notify=notify)
        counted = time.monotonic()
        batches = [range(b * parts.num_pairs, (b + 1) * parts.num_pairs) for b in range(len(plans))]
        rows = with_batches(rows, plans)
        examples = _examples(plans, parts, refusals, own_answers)
        if settings.measures_gradients:
            norms = refusal_gradients(loaded, examples, max_length=config.train.max_length, notify=notify)
            counts = replace(counts, gradients=norms)
        found = find_experts(config, loaded.identity, loaded.layers[0].params_per_expert, counts, batches)
        summary = prepare_summary(
            loaded.identity,
            offered.sources,
            engine.settings,
            rows,
            plans,
            parts,
            refusals,
            seconds_generate=None if writer.resumed else answered - started,
            seconds_routing=counted - replayed,
        )
        write_prepared(writer.path, rows, counts, found, examples, summary)
        if settings.pickle:
            write_pickles(writer.path, summary.base.name, rows, counts, found.masks, examples)
        drop_answer_journals(output)
        store.add(
            writer,
            base_fingerprint=loaded.identity.fingerprint,
            model_name=config.model.name,
            device=str(loaded.device),
        )
    return Prepared(output, summary, found.selection)


def _examples(
    plans: Sequence[BatchPlan], parts: Composition, refusals: Refusals, own_answers: Mapping[str, str]
) -> list[TrainingExample]:
    """The training examples of all batches, in order."""
    return [
        example
        for index, plan in enumerate(plans)
        for example in batch_examples(plan, index, parts, refusals.targets, own_answers)
    ]


def _written(
    config: MoeConfig,
    loaded: LoadedModel,
    endpoint: ChatEndpoint | None,
    pairs: Sequence[PromptPair],
    notify: Notify,
) -> Written | None:
    """The refusals that the endpoint writes for these pairs; None where it is not asked to."""
    if endpoint is None or not config.prepare.refusals_are_written:
        return None
    engine, output = writing_engine(config, loaded, endpoint), config.prepare.output_dir
    answers = answer_all(engine, refusal_prompts(pairs), output, notify=notify, task="refusals")
    return written_refusals(pairs, answers, KeywordJudge())
