"""Answers become rows with a label, and pairs are kept or dropped as a whole.

Comes in: prompts, their answers, and a judge. Goes out: one `AnsweredPrompt` per prompt, with the reason where it is
dropped. Always holds: rows are joined by id; both sides of a pair share their fate. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moe_cli.judges.judge import Exchange
from moe_cli.judges.language import NOT_ENGLISH
from moe_cli.records import AnsweredPrompt, BenignPrompt, Generation, Message, PromptPair, Verdict

NOT_REFUSED = "the plain form was not refused"
NOT_COMPLIED = "the attacked form was not complied with"
COMPLIED = ("compliance", "partial_refusal")  # not refused in full
NO_TOKENS = "an answer is empty"
BENIGN_CUT_OFF = "the benign answer was cut off by the token limit"
BENIGN_NOT_ANSWERED = "the benign prompt was not answered"
NO_VERDICT = {
    "safe": "the answer to the plain form has no verdict",
    "unsafe": "the answer to the attacked form has no verdict",
    "benign": "the answer to the benign prompt has no verdict",
}


PromptSide = Literal["safe", "unsafe", "benign"]


@dataclass(frozen=True, slots=True)
class Question:
    """One form of a pair, or a benign prompt."""

    id: str  # "goal-17/story#unsafe"
    side: PromptSide
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


def exchanges_of(
    questions: Sequence[Question], answers: Mapping[str, Generation]
) -> dict[str, tuple[PromptSide, Exchange]]:
    """What the judges are shown of every question, with its side."""
    return {question.id: (question.side, _exchange(question, answers[question.id].text)) for question in questions}


def answered_prompts(
    questions: Sequence[Question],
    answers: Mapping[str, Generation],
    verdicts: Mapping[str, Verdict],
    *,
    by_harm: bool,
    keep_all: bool,
) -> list[AnsweredPrompt]:
    """A row for every question; `by_harm`: whether an attacked form was complied with is told by harm, else by refusal.

    `keep_all` keeps every pair whose answers have a token, whatever the judges say.
    """
    rows = [_row(question, answers[question.id], verdicts[question.id]) for question in questions]
    reasons: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for row in rows:
        if (reason := _reason(row, by_harm=by_harm, keep_all=keep_all)) is not None:
            reasons[_fate(row)].append(reason)
    return [replace(row, kept=_fate(row) not in reasons, reason=_joined(reasons.get(_fate(row)))) for row in rows]


def drop_reasons(rows: Sequence[AnsweredPrompt]) -> dict[str, int]:
    """How many pairs and benign prompts were dropped for each reason."""
    dropped = {_fate(row): row.reason for row in rows}
    return dict(sorted(Counter(reason for reason in dropped.values() if reason is not None).items()))


def has_complied(row: AnsweredPrompt, *, by_harm: bool) -> bool | None:
    """Whether an attacked form was complied with; None: no verdict, or degenerate."""
    if row.label == "degenerate":
        return None
    if by_harm:
        return row.harmful
    return None if row.label is None else row.label in COMPLIED


def has_refused(row: AnsweredPrompt) -> bool | None:
    """Whether a plain form was refused in full; None: no verdict, or degenerate."""
    return None if row.label in (None, "degenerate") else row.label == "full_refusal"


def is_unscored(row: AnsweredPrompt, *, by_harm: bool) -> bool:
    """Whether the judge that decides this side gave no verdict; degenerate is one."""
    asked = row.harmful if row.side == "unsafe" and by_harm else row.label
    return asked is None and row.label != "degenerate"


def _fate(row: AnsweredPrompt) -> tuple[str, bool]:
    """What is kept or dropped as a whole: a pair, or a benign prompt (which may have the same id)."""
    return row.source_id, row.side == "benign"


def _joined(reasons: Sequence[str] | None) -> str | None:
    return None if reasons is None else " and ".join(dict.fromkeys(reasons))


def _exchange(question: Question, answer: str) -> Exchange:
    kind: Literal["harmful", "benign"] = "benign" if question.side == "benign" else "harmful"
    return Exchange(kind=kind, messages=question.messages, answer=answer)


def _row(question: Question, answer: Generation, verdict: Verdict) -> AnsweredPrompt:
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
        label=verdict.label,
        harmful=verdict.harmful,
        verdict=verdict.reason,
        kept=True,
        reason=None,
        batch=None,
    )


def _reason(row: AnsweredPrompt, *, by_harm: bool, keep_all: bool) -> str | None:
    """Why this row drops its pair (or itself, where it is benign)."""
    if row.num_answer_tokens == 0:
        return NO_TOKENS
    if row.side == "benign" and not row.finished:
        return BENIGN_CUT_OFF
    if row.side != "benign" and keep_all:
        return None
    if is_unscored(row, by_harm=by_harm):
        foreign = f": {NOT_ENGLISH}" if (row.verdict or "").startswith(NOT_ENGLISH) else ""
        return f"{NO_VERDICT[row.side]}{foreign}"
    if row.side == "benign":
        return None if row.label == "compliance" else BENIGN_NOT_ANSWERED
    if row.side == "safe":
        return None if has_refused(row) else NOT_REFUSED
    return None if has_complied(row, by_harm=by_harm) else NOT_COMPLIED
