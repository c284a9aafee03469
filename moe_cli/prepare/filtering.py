"""Answers become rows with a label, and pairs are kept or dropped as a whole.

Comes in: prompts, their answers, and a judge. Goes out: one `AnsweredPrompt` per prompt, with the reason where it is
dropped. Always holds: rows are joined by id; both sides of a pair share their fate. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moe_cli.judges.judge import Exchange, Judge
from moe_cli.judges.judging import verdicts_of
from moe_cli.records import AnsweredPrompt, BenignPrompt, Generation, Label, Message, PromptPair
from moe_cli.records.judging import Verdict

NOT_REFUSED = "the plain form was not refused"
NOT_COMPLIED = "the attacked form was not complied with"
COMPLIED = ("compliance", "partial_refusal")  # not refused, as the judge counts harm
NO_TOKENS = "an answer is empty"
NOT_LABELLED = "the judge could not label an answer"
BENIGN_CUT_OFF = "the benign answer was cut off by the token limit"
BENIGN_NOT_ANSWERED = "the benign prompt was not answered"


@dataclass(frozen=True, slots=True)
class Question:
    """One form of a pair, or a benign prompt."""

    id: str  # "goal-17/story#unsafe"
    side: Literal["safe", "unsafe", "benign"]
    source: PromptPair | BenignPrompt
    messages: tuple[Message, ...]


def questions_of(pairs: Sequence[PromptPair], benign: Sequence[BenignPrompt]) -> list[Question]:
    """Everything the model is asked: both forms of every pair, then the benign prompts."""
    forms = [
        question
        for pair in pairs
        for question in (
            Question(f"{pair.id}#safe", "safe", pair, pair.safe),
            Question(f"{pair.id}#unsafe", "unsafe", pair, pair.unsafe),
        )
    ]
    return forms + [Question(f"{prompt.id}#benign", "benign", prompt, prompt.messages) for prompt in benign]


def answered_prompts(
    questions: Sequence[Question], answers: Mapping[str, Generation], judge: Judge, *, keep_all: bool
) -> list[AnsweredPrompt]:
    """A row for every question. `keep_all` keeps every pair whose answers have a token, whatever the judge says."""
    verdicts = verdicts_of(judge, [_exchange(question, answers[question.id].text) for question in questions])
    rows = [_row(q, answers[q.id], verdict.label) for q, verdict in zip(questions, verdicts, strict=True)]
    reasons: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for row, verdict in zip(rows, verdicts, strict=True):
        if (reason := _reason(row, verdict, keep_all=keep_all)) is not None:
            reasons[_fate(row)].append(reason)
    return [replace(row, kept=_fate(row) not in reasons, reason=_joined(reasons.get(_fate(row)))) for row in rows]


def drop_reasons(rows: Sequence[AnsweredPrompt]) -> dict[str, int]:
    """How many pairs and benign prompts were dropped for each reason."""
    dropped = {_fate(row): row.reason for row in rows}
    return dict(sorted(Counter(reason for reason in dropped.values() if reason is not None).items()))


def _fate(row: AnsweredPrompt) -> tuple[str, bool]:
    """What is kept or dropped as a whole: a pair, or a benign prompt (which may have the same id)."""
    return row.source_id, row.side == "benign"


def _joined(reasons: Sequence[str] | None) -> str | None:
    return None if reasons is None else " and ".join(dict.fromkeys(reasons))


def _exchange(question: Question, answer: str) -> Exchange:
    kind: Literal["harmful", "benign"] = "benign" if question.side == "benign" else "harmful"
    return Exchange(kind=kind, messages=question.messages, answer=answer)


def _row(question: Question, answer: Generation, label: Label | None) -> AnsweredPrompt:
    return AnsweredPrompt(
        prompt_id=question.id,
        source_id=question.source.id,
        cluster=question.source.cluster,
        side=question.side,
        attack=question.source.attack,
        messages=question.messages,
        answer=answer.text,
        num_answer_tokens=len(answer.token_ids),
        finished=answer.finished,
        label=label,
        kept=True,
        reason=None,
        batch=None,
    )


def _reason(row: AnsweredPrompt, verdict: Verdict, *, keep_all: bool) -> str | None:
    """Why this row drops its pair (or itself, where it is benign)."""
    if row.num_answer_tokens == 0:
        return NO_TOKENS
    if row.side == "benign":
        if not row.finished:
            return BENIGN_CUT_OFF
        if row.label is None:
            return _not_labelled(verdict)
        return None if row.label == "compliance" else BENIGN_NOT_ANSWERED
    if keep_all:
        return None
    if row.label is None:
        return _not_labelled(verdict)
    if row.side == "safe":
        return None if row.label == "full_refusal" else NOT_REFUSED
    return None if row.label in COMPLIED else NOT_COMPLIED


def _not_labelled(verdict: Verdict) -> str:
    """What is counted: the kind of the judge's reason, which may go on with words of the answer."""
    return f"{NOT_LABELLED}: {verdict.reason.partition(':')[0]}"
