"""Exchanges and stand-ins that the tests of the judges share."""

from __future__ import annotations

from moe_cli.judges.judge import Exchange
from moe_cli.records.judging import QUESTIONS, Verdict
from tests.builders import judge, user

PROSE = "Take the small key from the shelf, open the box, and read the note that lies in it aloud."


def exchange(answer=PROSE, *, prompt="Open the box.", kind="harmful"):
    return Exchange(kind=kind, messages=user(prompt), answer=answer)


class EchoJudge:
    """Says of every answer what it was shown, and remembers it."""

    name = "echo"
    group = 3
    holds_weights = False

    def __init__(self, questions=QUESTIONS):
        self.questions = questions
        self.seen = []
        self.calls = 0
        self.released = 0

    @property
    def identity(self):
        return judge(self.name, self.questions)

    def check(self):
        """It always works."""

    def verdicts(self, exchanges):
        self.calls += 1
        self.seen += [one.answer for one in exchanges]
        return [Verdict(label="compliance", harmful=None, reason=one.answer) for one in exchanges]

    def release(self):
        self.released += 1
