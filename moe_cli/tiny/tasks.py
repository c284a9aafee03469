"""A benign task as data: how its questions read, how its only right answer reads, and how both are filled.

A generator comes in, a question with its answer goes out. A question determines its answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Filling = Callable[[Random], dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A kind of benign question."""

    kind: str  # "reverse"
    questions: tuple[str, ...]  # ("Say {words} in reverse order.",)
    answer: str  # "{reversed}."
    fill: Filling  # draws the values of every field of questions and answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BenignGoal:
    """One benign question and its only right answer."""

    kind: str  # "reverse"
    request: str  # "Say lamp, apple in reverse order."
    answer: str  # "apple, lamp."


def benign_goal(task: Task, generator: Random) -> BenignGoal:
    """A question of this task."""
    values = task.fill(generator)
    question = generator.choice(task.questions)
    return BenignGoal(kind=task.kind, request=question.format(**values), answer=task.answer.format(**values))
