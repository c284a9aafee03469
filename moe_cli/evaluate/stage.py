"""`moe evaluate`: safety, over-refusal, capability and drift of one model.

Comes in: a training run or a model, and items. Goes out: answers, verdicts and their `EvaluationSummary` on disk.
Always holds: an interrupted evaluation goes on at the first unanswered item; with too many unscored answers the results
are written and the command fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from moe_cli.artifacts import Store, layout, open_run
from moe_cli.artifacts.files import write_whole
from moe_cli.artifacts.interruption import resumable
from moe_cli.artifacts.journal import ANSWERS, drop_answer_journals
from moe_cli.codec import encode, encode_lines
from moe_cli.config import MoeConfig
from moe_cli.evaluate.correctness import is_correct
from moe_cli.evaluate.drift import drift_items
from moe_cli.evaluate.drift_summary import drift_summary
from moe_cli.evaluate.metrics import (
    accuracy,
    attack_success,
    degenerate_share,
    over_refusal,
    refuse_unscored,
    suite_summaries,
)
from moe_cli.evaluate.suites import evaluation_items, items_digest
from moe_cli.evaluate.target import evaluation_target, load_base, load_target
from moe_cli.judges.judge import Exchange, Judge
from moe_cli.judges.keywords import KeywordJudge
from moe_cli.model.answering import answer_all
from moe_cli.model.engine import Prompt
from moe_cli.model.generate import TransformersEngine, greedy
from moe_cli.records import (
    DriftItem,
    EvaluationItem,
    EvaluationRecord,
    EvaluationSummary,
    Generation,
    ModelIdentity,
)

Notify = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What `moe evaluate` made."""

    path: Path
    summary: EvaluationSummary


def run(words: str, config: MoeConfig, store: Store, notify: Notify, *, resume: bool = False) -> Evaluated:
    """Evaluate the training run or model that `words` name.

    Raises:
        UsageError: no items, or no such model.
        ArtifactError: the run is damaged, or an evaluation of this name is there already.
        UnscoredError: too many answers without a verdict; the results are written all the same.
    """
    store.refuse_unwritable()
    settings = config.evaluate
    target = evaluation_target(words, config.model)
    items = evaluation_items(settings, target.base_name)
    output = layout.evaluation_directory(target.run.path if target.run else None, words, settings.name)
    with open_run(output, "evaluation", config, resume=resume) as writer, resumable(output, ANSWERS):
        started = time.monotonic()
        loaded = load_target(target)
        asked = [item for item in items if item.kind != "text"]
        answers = answer_all(
            TransformersEngine(loaded, greedy(max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size)),
            [Prompt(item.id, item.messages) for item in asked],
            output,
            notify=notify,
        )
        judge = KeywordJudge()
        records = _records(asked, answers, judge)
        base = load_base(target)
        texts = [item for item in items if item.kind == "text"]
        drift = drift_items(base, loaded, texts, batch_size=settings.batch_size, notify=notify) if base else []
        summary = EvaluationSummary(
            name=settings.name,
            model=loaded.identity,
            run=str(target.run.path) if target.run else None,
            training_mode=target.training_mode,
            base=target.training.base if target.training else None,
            items_digest=items_digest(items),
            judge=judge.identity,
            generation=_generation_settings(config, loaded.identity),
            suites=suite_summaries(records),
            attack_success=attack_success(records),
            over_refusal=over_refusal(records),
            accuracy=accuracy(records),
            degenerate=degenerate_share(records),
            drift=drift_summary(drift, seed=config.seed) if drift else None,
            seconds=None if writer.resumed else time.monotonic() - started,
        )
        _write(output, items, records, drift, summary)
        if target.run is not None:
            writer.parents["run"] = target.run.digest
        store.add(
            writer,
            base_fingerprint=(target.training.base if target.training else loaded.identity).fingerprint,
            model_name=target.base_name,
            device=str(loaded.device),
        )
    refuse_unscored(records, settings.max_unscored)
    return Evaluated(output, summary)


def _records(
    items: Sequence[EvaluationItem], answers: Mapping[str, Generation], judge: Judge
) -> list[EvaluationRecord]:
    exchanges = [
        Exchange(
            kind="harmful" if item.kind == "harmful" else "benign", messages=item.messages, answer=answers[item.id].text
        )
        for item in items
    ]
    return [
        EvaluationRecord(
            item=item,
            answer=answers[item.id].text,
            num_answer_tokens=len(answers[item.id].token_ids),
            finished=answers[item.id].finished,
            verdict=verdict,
            correct=None if item.expected is None else is_correct(answers[item.id].text, item.expected),
        )
        for item, verdict in zip(items, judge.verdicts(exchanges), strict=True)
    ]


def _generation_settings(config: MoeConfig, model: ModelIdentity) -> dict[str, str | int | float | bool | None]:
    return {
        "decoding": "greedy",
        "max_new_tokens": config.evaluate.max_new_tokens,
        "batch_size": config.evaluate.batch_size,
        "dtype": model.dtype,
        "num_threads": torch.get_num_threads(),
    }


def _write(
    path: Path,
    items: Sequence[EvaluationItem],
    records: Sequence[EvaluationRecord],
    drift: Sequence[DriftItem],
    summary: EvaluationSummary,
) -> None:
    write_whole(path / layout.ITEMS, encode_lines(items))
    write_whole(path / layout.RECORDS, encode_lines(records))
    write_whole(path / layout.DRIFT, encode_lines(drift))
    write_whole(path / layout.EVALUATION_SUMMARY, encode(summary, indent=True))
    drop_answer_journals(path)
