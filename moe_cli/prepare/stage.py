"""`moe prepare`: which experts are more active when the model does harm?

Comes in: a config. Goes out: a prepare run on disk, its `PrepareSummary` and its `Selection`. Always holds: batches are
made once, here, and every count in the summary is of what was written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import Store, open_run
from moe_cli.artifacts.interruption import resumable
from moe_cli.artifacts.journal import ANSWERS, drop_answer_journals
from moe_cli.config import MoeConfig
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.answering import answer_all
from moe_cli.model.generate import Prompt
from moe_cli.model.load import load_model
from moe_cli.prepare.batches import Composition, batch_examples, composition, plan_batches, refuse_too_few
from moe_cli.prepare.counting import count_routing
from moe_cli.prepare.evidence import find_experts, selection_rule
from moe_cli.prepare.filtering import answered_prompts, drop_reasons, questions_of
from moe_cli.prepare.output import write_prepared
from moe_cli.prepare.refusals import refusal_targets, refusal_texts
from moe_cli.prepare.sources import benign_of, pairs_of
from moe_cli.prepare.summary import prepare_summary, with_batches
from moe_cli.records import PrepareSummary, Selection

Notify = Callable[[object], None]

DEFAULT_BENIGN_RATIO = 0.5


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `moe prepare` made."""

    path: Path
    summary: PrepareSummary
    selection: Selection


def run(config: MoeConfig, store: Store, notify: Notify, *, resume: bool = False) -> Prepared:
    """Answer, filter, batch, count, select, write.

    Raises:
        UsageError: bad pairs, no full batch, or a model without experts.
        ArtifactError: the output directory is taken.
    """
    store.refuse_unwritable()
    settings = config.prepare
    pairs, benign = pairs_of(config), benign_of(config)
    parts = _composition(config, has_benign=bool(benign))
    refuse_too_few(len(pairs), len(benign), parts)
    texts = refusal_texts(settings.refusals)
    questions = questions_of(pairs, benign if parts.num_benign else ())
    output = settings.output_dir
    with open_run(output, "prepare", config, resume=resume) as writer, resumable(output, ANSWERS):
        loaded = load_model(config.model)
        selection_rule(settings, loaded.identity, loaded.layers[0].params_per_expert)  # refuses before the long work
        started = time.monotonic()
        answers = answer_all(
            loaded,
            [Prompt(question.id, question.messages) for question in questions],
            output,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.generation_batch_size,
            notify=notify,
        )
        answered = time.monotonic()
        rows = answered_prompts(questions, answers, KeywordJudge(), keep_all=settings.keep_all)
        refusals = refusal_targets(rows, texts)
        own_answers = {row.source_id: row.answer for row in rows if row.kept and row.side == "benign"}
        kept_pairs = [pair for pair in pairs if pair.id in refusals.targets]
        kept_benign = [prompt for prompt in benign if prompt.id in own_answers]
        refuse_too_few(len(kept_pairs), len(kept_benign), parts, dropped=drop_reasons(rows))
        plans = plan_batches(kept_pairs, kept_benign, parts, seed=config.seed)
        replayed = time.monotonic()
        batched = [pair for plan in plans for pair in plan.pairs]
        counts = count_routing(loaded, batched, answers, batch_size=settings.generation_batch_size, notify=notify)
        counted = time.monotonic()
        batches = [range(b * parts.num_pairs, (b + 1) * parts.num_pairs) for b in range(len(plans))]
        found = find_experts(config, loaded.identity, loaded.layers[0].params_per_expert, counts, batches)
        rows = with_batches(rows, plans)
        examples = [
            example
            for index, plan in enumerate(plans)
            for example in batch_examples(plan, index, parts, refusals.targets, own_answers)
        ]
        summary = prepare_summary(
            loaded.identity,
            rows,
            plans,
            parts,
            refusals,
            seconds_generate=None if writer.resumed else answered - started,
            seconds_routing=counted - replayed,
        )
        write_prepared(writer.path, rows, counts, found, examples, summary)
        drop_answer_journals(output)
        store.add(
            writer,
            base_fingerprint=loaded.identity.fingerprint,
            model_name=config.model.name,
            device=str(loaded.device),
        )
    return Prepared(output, summary, found.selection)


def _composition(config: MoeConfig, *, has_benign: bool) -> Composition:
    ratio = config.prepare.benign_ratio
    wanted = ratio if ratio is not None else (DEFAULT_BENIGN_RATIO if has_benign else 0.0)
    return composition(config.prepare.batch_size, config.prepare.safe_ratio, wanted)
