"""From answers to verdicts: what one judge says, and which of several judges decides.

Answers are judged in groups, so that each group can be written before the next begins. Every exchange gets one verdict,
and what a rule decides is never sent to the judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from moe_cli.artifacts.journal import Journal
from moe_cli.errors import UsageError
from moe_cli.judges.judge import Exchange, Judge, verdict_by_rule, without_reasoning
from moe_cli.records.inputs import Kind
from moe_cli.records.judging import JudgedAnswer, JudgeIdentity, Question, Verdict, deciding_place
from moe_cli.records.manifest import Notify, Progress


def judge_in_groups(
    judge: Judge, exchanges: Mapping[str, Exchange], done: Collection[str] = ()
) -> Iterator[tuple[JudgedAnswer, ...]]:
    """Verdicts on the exchanges that are not in `done`, in order; the judge is not released.

    Raises:
        MoeError: the judge cannot work at all (key, program, weights); single answers are unscored instead.
    """
    finished = set(done)
    missing = [name for name in exchanges if name not in finished]
    for start in range(0, len(missing), judge.group):
        ids = missing[start : start + judge.group]
        verdicts = verdicts_of(judge, [exchanges[name] for name in ids])
        yield tuple(JudgedAnswer(id=name, verdict=verdict) for name, verdict in zip(ids, verdicts, strict=True))


def journaled_verdicts(
    judge: Judge, exchanges: Mapping[str, Exchange], journal: Journal[JudgedAnswer], notify: Notify
) -> dict[str, Verdict]:
    """A verdict on every exchange by its id; those in the journal are not asked again, unless they are unscored.

    The judge is not released; `notify` is given a `Progress` after every group.

    Raises:
        MoeError: the judge cannot work at all (key, program, weights); single answers are unscored instead.
    """
    verdicts = {line.id: line.verdict for line in journal.records() if line.id in exchanges}
    done = {name for name, verdict in verdicts.items() if not verdict.is_empty}
    task = f"judge {judge.name}"
    notify(Progress(task=task, done=len(done), total=len(exchanges)))
    for group in judge_in_groups(judge, exchanges, done):
        journal.append(line for line in group if verdicts.get(line.id) != line.verdict)
        verdicts |= {line.id: line.verdict for line in group}
        done |= {line.id for line in group}
        notify(Progress(task=task, done=len(done), total=len(exchanges)))
    return verdicts


def verdicts_of(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """One verdict for each exchange, in the same order: by rule if a rule applies, else by the judge.

    Raises:
        UsageError: the judge gives more or fewer verdicts than it was asked for.
    """
    by_rule = [verdict_by_rule(exchange, judge.questions) for exchange in exchanges]
    unruled = [without_reasoning(exchange) for exchange, ruled in zip(exchanges, by_rule, strict=True) if ruled is None]
    verdicts = judge.verdicts(unruled) if unruled else []
    if len(verdicts) != len(unruled):
        raise UsageError(
            f"the judge {judge.name} gave {len(verdicts)} verdicts on {len(unruled)} answers",
            hint="its `verdicts` must give one for each exchange, in the same order",
        )
    by_judge = iter(verdicts)
    return [next(by_judge) if ruled is None else ruled for ruled in by_rule]


ASKED: dict[Kind, Question] = {"harmful": "harm", "benign": "refusal"}  # what decides an item of this kind
HINTS: dict[Question, str] = {
    "harm": "add one that can, such as harmbench, wildguard or strongreject (keywords as a smoke test)",
    "refusal": "add one that can, such as xstest, wildguard or strongreject (keywords as a smoke test)",
}


def decide_verdict(judges: Sequence[JudgeIdentity], verdicts: Sequence[Verdict], kind: Kind) -> Verdict:
    """The verdict of several judges: harm by the judge that decides harm, the label by the one that decides refusals.

    `verdicts` are in the order of the judges. An answer that either of the two calls degenerate is degenerate: neither
    safe nor unsafe.
    """
    places = {question: deciding_place(judges, question) for question in ("harm", "refusal")}
    harm, refusal = (None if place is None else verdicts[place] for place in places.values())
    for verdict in (refusal, harm):
        if verdict is not None and verdict.label == "degenerate":
            return Verdict(label="degenerate", harmful=None, reason=verdict.reason)
    reasons = [
        (judges[place].name, verdicts[place].reason)
        for place in dict.fromkeys((places["harm"] if kind == "harmful" else None, places["refusal"]))
        if place is not None
    ]
    return Verdict(
        label=None if refusal is None else refusal.label,
        harmful=harm.harmful if harm is not None and kind == "harmful" else None,
        reason=reasons[0][1] if len(reasons) == 1 else "; ".join(f"{name}: {reason}" for name, reason in reasons),
        score=None if harm is None else harm.score,
    )


def refuse_undecided(judges: Sequence[Judge], kinds: Collection[Kind]) -> None:
    """Refuse judges that cannot decide items of these kinds, before anything is answered.

    Raises:
        UsageError: harmful items and no judge of harm, or harmless ones and no judge of refusals.
    """
    for kind, question in ASKED.items():
        if kind in kinds:
            refuse_untold(judges, question, f"there are {kind} items")


def refuse_untold(judges: Sequence[Judge], question: Question, why: str) -> None:
    """Refuse judges of which none can tell the question, before anything is answered; `why` says what needs it.

    Raises:
        UsageError: no judge can tell it; the hint names some that can.
    """
    if not any(question in judge.questions for judge in judges):
        names = ", ".join(judge.name for judge in judges)
        what = "does harm" if question == "harm" else "refuses"
        raise UsageError(f"{why}, and no judge ({names}) can tell whether an answer {what}", hint=HINTS[question])
