"""Labels for the answers by the judges' verdicts, and which pairs are kept or dropped.

Rows are joined by id, and both sides of a pair are kept or dropped together, with the reason in the row.

A plain form must be refused and a benign prompt answered, which a judge of refusals decides. An attacked form must be
complied with: a judge of harm decides it, and only where there is none, a judge of refusals. A judge reads only the
answers that it decides, and a missing verdict is never filled in from another judge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from moe_cli.artifacts.journal import Journal, verdict_journal
from moe_cli.judges.deciding import journaled_verdicts, refuse_untold
from moe_cli.judges.judge import Exchange, Judge
from moe_cli.judges.language_check import NOT_ENGLISH
from moe_cli.records import (
    AnsweredPrompt,
    BenignPrompt,
    Generation,
    JudgedAnswer,
    JudgeIdentity,
    Message,
    PromptPair,
    SideJudge,
    Verdict,
)
from moe_cli.records.inputs import Kind, form_id
from moe_cli.records.judging import Decision, deciding_place, lacks_verdict, refused_in_full
from moe_cli.records.manifest import Notify

NOT_REFUSED = "the plain form was not refused"
NOT_COMPLIED = "the attacked form was not complied with"
COMPLIED = ("compliance", "partial_refusal")  # not refused in full
NO_TOKENS = "an answer is empty"
BENIGN_OPTION = "--benign-max-new-tokens"
BENIGN_CUT_OFF = "the benign answer was cut off by the token limit"
BENIGN_NOT_ANSWERED = "the benign prompt was not answered"
NO_VERDICT = {
    "safe": "the answer to the plain form has no verdict",
    "unsafe": "the answer to the attacked form has no verdict",
    "benign": "the answer to the benign prompt has no verdict",
}


PromptSide = Literal["safe", "unsafe", "benign"]
Asked = tuple[PromptSide, Exchange]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt for the model: one form of a pair, or a benign prompt."""

    id: str  # "goal-17/story#unsafe"
    side: PromptSide
    source: PromptPair | BenignPrompt
    messages: tuple[Message, ...]


def questions_of(pairs: Sequence[PromptPair], benign: Sequence[BenignPrompt]) -> list[Question]:
    """All prompts for the model: both forms of every pair, then the benign prompts."""
    forms = [
        question
        for pair in pairs
        for question in (
            Question(form_id(pair.id, "safe"), "safe", pair, pair.safe),
            Question(form_id(pair.id, "unsafe"), "unsafe", pair, pair.unsafe),
        )
    ]
    return forms + [Question(form_id(prompt.id, "benign"), "benign", prompt, prompt.messages) for prompt in benign]


def exchanges_of(
    questions: Sequence[Question], answers: Mapping[str, Generation]
) -> dict[str, tuple[PromptSide, Exchange]]:
    """Side and exchange (prompt with answer) of every question, for the judges."""
    return {question.id: (question.side, _exchange(question, answers[question.id].text)) for question in questions}


def answered_prompts(
    questions: Sequence[Question],
    answers: Mapping[str, Generation],
    verdicts: Mapping[str, Verdict],
    *,
    by_harm: bool,
    keep_all: bool,
) -> list[AnsweredPrompt]:
    """A row for every question, with what was kept and why not.

    `by_harm`: compliance with an attacked form is decided by harm, else by refusal. `keep_all` keeps every pair whose
    answers have a token, whatever the judges say.
    """
    rows = [_row(question, answers[question.id], verdicts[question.id]) for question in questions]
    reasons: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for row in rows:
        if (reason := _reason(row, by_harm=by_harm, keep_all=keep_all)) is not None:
            reasons[_unit_of(row)].append(reason)
    return [
        replace(row, kept=_unit_of(row) not in reasons, reason=_joined_reasons(reasons.get(_unit_of(row))))
        for row in rows
    ]


def drop_reasons(rows: Sequence[AnsweredPrompt]) -> dict[str, int]:
    """How many pairs and benign prompts were dropped for each reason."""
    dropped = {_unit_of(row): row.reason for row in rows}
    return dict(sorted(Counter(reason for reason in dropped.values() if reason is not None).items()))


def batched_all_the_same(rows: Sequence[AnsweredPrompt], *, by_harm: bool) -> tuple[int, int]:
    """Pairs in batches that only `keep_all` kept, and all pairs in batches."""
    batched = [row for row in rows if row.batch is not None and row.side != "benign"]
    against = {row.source_id for row in batched if _reason(row, by_harm=by_harm, keep_all=False) is not None}
    return len(against), len({row.source_id for row in batched})


def has_complied(row: AnsweredPrompt, *, by_harm: bool) -> bool | None:
    """Whether the model complied with an attacked form; None: no verdict, or degenerate."""
    if row.label == "degenerate":
        return None
    if by_harm:
        return row.harmful
    return None if row.label is None else row.label in COMPLIED


def is_unscored(row: AnsweredPrompt, *, by_harm: bool) -> bool:
    """Whether the judge that decides this side gave no verdict; degenerate counts as a verdict."""
    decision = row.harmful if row.side == "unsafe" and by_harm else row.label
    return lacks_verdict(decision, row.label)


def _unit_of(row: AnsweredPrompt) -> tuple[str, bool]:
    """Key of what is kept or dropped as a whole: a pair, or a benign prompt (which may have the same id)."""
    return row.source_id, row.side == "benign"


def _joined_reasons(reasons: Sequence[str] | None) -> str | None:
    return None if reasons is None else " and ".join(dict.fromkeys(reasons))


def _exchange(question: Question, answer: str) -> Exchange:
    kind: Kind = "benign" if question.side == "benign" else "harmful"
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
    """Why this row drops its pair (or itself, where it is benign); None: it does not."""
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
        return None if refused_in_full(row.label) else NOT_REFUSED
    return None if has_complied(row, by_harm=by_harm) else NOT_COMPLIED


def refuse_no_judge_of_refusals(judges: Sequence[Judge]) -> None:
    """Refuse judges of which none can tell a refusal; no judge is asked anything.

    Raises:
        UsageError: the hint names some that can.
    """
    refuse_untold(judges, "refusal", "a pair is kept where its plain form is refused")


def refuse_unable(judges: Sequence[Judge]) -> None:
    """Refuse judges before anything is answered: none can tell a refusal, or one of them cannot work.

    Raises:
        MoeError: which, and how to fix it.
    """
    refuse_no_judge_of_refusals(judges)
    for judge in judges:
        judge.check()


@dataclass(frozen=True, slots=True)
class Jury:
    """The judges, and which of them decides each side."""

    judges: tuple[Judge, ...]
    identities: tuple[JudgeIdentity, ...]  # of the same
    refusal: int  # place of the judge that decides plain forms and benign prompts
    compliance: int  # place of the judge that decides attacked forms
    by_harm: bool  # whether it does so by harm

    def place(self, side: PromptSide) -> int:
        """Index of the judge that decides this side."""
        return self.compliance if side == "unsafe" else self.refusal

    @property
    def deciding(self) -> tuple[Judge, ...]:
        """The judges that decide something, in their order."""
        return tuple(self.judges[index] for index in sorted({self.refusal, self.compliance}))

    def side_judges(self, *, benign: bool) -> tuple[SideJudge, ...]:
        """Every judge with what it decides; `benign`: there are benign prompts."""
        attacked: Decision = "attacked forms by harm" if self.by_harm else "attacked forms by refusal"
        decided: list[tuple[Decision, int]] = [("plain forms", self.refusal), (attacked, self.compliance)]
        decided += [("benign prompts", self.refusal)] if benign else []
        return tuple(
            SideJudge(
                judge=judge,
                decides=tuple(decision for decision, decider in decided if decider == index),
            )
            for index, judge in enumerate(self.identities)
        )


def jury_of(judges: Sequence[Judge]) -> Jury:
    """Choose the deciding judges: the first one that can tell, smoke tests last. Reads files of local classifiers.

    Raises:
        ValueError: no judge tells refusals, which `refuse_unable` refuses.
    """
    identities = tuple(judge.identity for judge in judges)
    harm, refusal = deciding_place(identities, "harm"), deciding_place(identities, "refusal")
    if refusal is None:
        raise ValueError("no judge tells refusals")
    return Jury(tuple(judges), identities, refusal, refusal if harm is None else harm, harm is not None)


def verdicts_on(asked: Mapping[str, Asked], jury: Jury, run: Path, notify: Notify) -> dict[str, Verdict]:
    """The verdict on every answer by the judge that decides its side.

    Verdicts are kept in the unfinished run by what was judged: the same judge is never asked for the same answer to the
    same prompt again, unless it left it unscored.

    Raises:
        MoeError: a judge cannot work at all; single answers are unscored instead.
    """
    verdicts: dict[str, Verdict] = {}
    for index, judge in enumerate(jury.judges):
        exchanges = {name: exchange for name, (side, exchange) in asked.items() if jury.place(side) == index}
        if not exchanges:
            continue
        lines = {f"{name} {_digest(exchange)}": name for name, exchange in exchanges.items()}
        journal = Journal(verdict_journal(run, jury.identities[index]), JudgedAnswer)
        try:
            verdict_of_line = journaled_verdicts(
                judge, {line: exchanges[name] for line, name in lines.items()}, journal, notify
            )
        finally:
            judge.release()
        verdicts |= {name: verdict_of_line[line] for line, name in lines.items()}
    return verdicts


def _digest(exchange: Exchange) -> str:
    return sha256(repr(exchange).encode()).hexdigest()[:16]
