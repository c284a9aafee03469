"""What every judge says about every answer.

Comes in: judges, items and answers. Goes out: the verdicts on each answer, in the order of the judges. Always holds: a
verdict that this evaluation, or an earlier one with the same judge and the same answers, has is never asked for again;
what came back unscored is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from moe_cli.evaluate.correctness import is_correct
from moe_cli.evaluate.work import StageCache
from moe_cli.judges.deciding import decide_verdict
from moe_cli.judges.judge import Exchange, Judge, Kind
from moe_cli.judges.judging import journaled_verdicts
from moe_cli.records import EvaluationItem, EvaluationRecord, JudgedAnswer, JudgeIdentity, Verdict


class JudgedAnswerText(Protocol):
    """An answer, made here or elsewhere."""

    @property
    def text(self) -> str:
        """What was answered."""
        ...

    @property
    def num_tokens(self) -> int | None:
        """Its length; None: not known."""
        ...

    @property
    def finished(self) -> bool | None:
        """Whether it ended by itself; None: not known."""
        ...


Answered = tuple[Sequence[EvaluationItem], Mapping[str, JudgedAnswerText]]


def judge_answers(judges: Sequence[Judge], sets: Sequence[Answered], work: StageCache) -> list[list[EvaluationRecord]]:
    """Of every set of answers the items with answer and verdicts, in the order of the items.

    A judge reads all sets before the next judge begins, and then gives back what it holds.
    """
    exchanges = [{item.id: _exchange(item, answers[item.id]) for item in items} for items, answers in sets]
    by_judge = [_by(judge, exchanges, work) for judge in judges]
    identities = [judge.identity for judge in judges]
    return [
        [_record(item, answers[item.id], identities, [found[place][item.id] for found in by_judge]) for item in items]
        for place, (items, answers) in enumerate(sets)
    ]


def _by(judge: Judge, exchanges: Sequence[Mapping[str, Exchange]], work: StageCache) -> list[dict[str, Verdict]]:
    try:
        return [_verdicts(judge, of_set, work) if of_set else {} for of_set in exchanges]
    finally:
        judge.release()


def _exchange(item: EvaluationItem, answer: JudgedAnswerText) -> Exchange:
    return Exchange(kind=_kind(item), messages=item.messages, answer=answer.text)


def _kind(item: EvaluationItem) -> Kind:
    return "harmful" if item.kind == "harmful" else "benign"


def _verdicts(judge: Judge, exchanges: Mapping[str, Exchange], work: StageCache) -> dict[str, Verdict]:
    journal = work.journal("judge", f"judge {judge.name}", JudgedAnswer, judge.identity, tuple(exchanges.items()))
    return journaled_verdicts(judge, exchanges, journal, work.notify)


def _record(
    item: EvaluationItem, answer: JudgedAnswerText, judges: Sequence[JudgeIdentity], verdicts: Sequence[Verdict]
) -> EvaluationRecord:
    return EvaluationRecord(
        item=item,
        answer=answer.text,
        num_answer_tokens=answer.num_tokens,
        finished=answer.finished,
        verdict=decide_verdict(judges, verdicts, _kind(item)),
        verdicts=tuple(verdicts),
        correct=None if item.expected is None else is_correct(answer.text, item.expected),
    )
