"""Answers to verdicts of one judge, group by group.

Comes in: a judge, and exchanges by id. Goes out: judged answers, a group at a time, so that each can be written before
the next begins. Always holds: every exchange gets one verdict; what a rule decides is never sent to the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from moe_cli.artifacts.journal import Journal
from moe_cli.errors import UsageError
from moe_cli.judges.judge import Exchange, Judge
from moe_cli.judges.screening import verdict_by_rule, without_reasoning
from moe_cli.records.judging import JudgedAnswer, Verdict
from moe_cli.records.runs import Progress


def judge_in_groups(
    judge: Judge, exchanges: Mapping[str, Exchange], done: Collection[str] = ()
) -> Iterator[tuple[JudgedAnswer, ...]]:
    """Verdicts on the exchanges that are not in `done`, in their order; the judge keeps what it holds.

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
    judge: Judge, exchanges: Mapping[str, Exchange], journal: Journal[JudgedAnswer], notify: Callable[[object], None]
) -> dict[str, Verdict]:
    """A verdict on every exchange by its id; what the journal holds is never asked again, unless it is unscored.

    The judge keeps what it holds; `notify` is given a `Progress` after every group.

    Raises:
        MoeError: the judge cannot work at all (key, program, weights); single answers are unscored instead.
    """
    found = {line.id: line.verdict for line in journal.records() if line.id in exchanges}
    done = {name for name, verdict in found.items() if verdict.label is not None or verdict.harmful is not None}
    task = f"judge {judge.name}"
    notify(Progress(task=task, done=len(done), total=len(exchanges)))
    for made in judge_in_groups(judge, exchanges, done):
        journal.append(line for line in made if found.get(line.id) != line.verdict)
        found |= {line.id: line.verdict for line in made}
        done |= {line.id for line in made}
        notify(Progress(task=task, done=len(done), total=len(exchanges)))
    return found


def verdicts_of(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """One verdict for each exchange, in the same order: by rule where there is one, else by the judge.

    Raises:
        UsageError: the judge gives more or fewer verdicts than it was asked for.
    """
    by_rule = [verdict_by_rule(exchange, judge.questions) for exchange in exchanges]
    asked = [without_reasoning(exchange) for exchange, ruled in zip(exchanges, by_rule, strict=True) if ruled is None]
    given = judge.verdicts(asked) if asked else []
    if len(given) != len(asked):
        raise UsageError(
            f"the judge {judge.name} gave {len(given)} verdicts on {len(asked)} answers",
            hint="its `verdicts` must give one for each exchange, in the same order",
        )
    by_judge = iter(given)
    return [next(by_judge) if ruled is None else ruled for ruled in by_rule]
