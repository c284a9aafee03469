"""What an evaluation writes, and the rest of one whose answers are there and whose weights are not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.artifacts import RunWriter, layout
from moe_cli.artifacts.files import write_atomic
from moe_cli.codec import encode, encode_lines
from moe_cli.config import EvaluateConfig
from moe_cli.evaluate.judging import JudgedAnswerText, judge_answers
from moe_cli.evaluate.moved import Drift
from moe_cli.evaluate.subject import Subject
from moe_cli.evaluate.summary import summarise_evaluation
from moe_cli.evaluate.work import StageCache
from moe_cli.judges.judge import Judge
from moe_cli.records import CapabilitySample, EvaluationItem, EvaluationRecord, EvaluationSummary


@dataclass(frozen=True, slots=True)
class EvaluationOutput:
    """What `moe evaluate` made."""

    path: Path
    summary: EvaluationSummary


def write_evaluation(
    path: Path,
    items: Sequence[EvaluationItem],
    records: Sequence[EvaluationRecord],
    restored: Sequence[EvaluationRecord],
    moved: Drift,
    samples: Sequence[CapabilitySample],
    summary: EvaluationSummary,
) -> None:
    """Every file of an evaluation; `restored` are the answers with the base's router."""
    write_atomic(path / layout.ITEMS, encode_lines(items))
    write_atomic(path / layout.RECORDS, encode_lines(records))
    if restored:
        write_atomic(path / layout.RESTORED, encode_lines(restored))
    write_atomic(path / layout.DRIFT, encode_lines(moved.items))
    if summary.capability:
        write_atomic(path / layout.CAPABILITY, encode_lines(samples))
    write_atomic(path / layout.EVALUATION_SUMMARY, encode(summary, indent=True))


def judge_without_weights(
    writer: RunWriter,
    subject: Subject,
    items: Sequence[EvaluationItem],
    answers: Mapping[str, JudgedAnswerText],
    judges: Sequence[Judge],
    work: StageCache,
    *,
    settings: EvaluateConfig,
    trained: tuple[int, int] | None,
    started: float,
) -> tuple[EvaluationSummary, list[EvaluationRecord]]:
    """Judge and write; nothing is said of what needs weights. `started` is a moment of `time.monotonic`."""
    asked = [item for item in items if item.kind != "text"]
    (records,) = judge_answers(judges, [(asked, answers)], work)
    summary = summarise_evaluation(
        writer.path.name,
        subject,
        items,
        records,
        [judge.identity for judge in judges],
        Drift(),
        (),
        None,
        trained,
        max_unscored=settings.max_unscored,
        taken=work.taken,
        seconds=None if writer.resumed or work.taken else time.monotonic() - started,
    )
    write_evaluation(writer.path, items, records, (), Drift(), (), summary)
    return summary, records
