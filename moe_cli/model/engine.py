"""The interface of whatever answers prompts.

Each group of `Generation`s is returned as soon as it is made. An engine states what its answers depend on, so that
answers made in another way are never mistaken for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from moe_cli.records import AnswerSettings, Generation, Message

Keep = Callable[[Sequence[Generation]], None]


def keep_nothing(answers: Sequence[Generation]) -> None:
    """Where nothing is resumed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to be answered."""

    id: str  # "goal-17/story#unsafe"
    messages: tuple[Message, ...]  # ends with a user turn


class Engine(Protocol):
    """Anything that answers prompts as the model would."""

    @property
    def depends_on(self) -> tuple[object, ...]:
        """Weights, config, tokenizer and machine: all that an answer depends on except settings and prompt."""
        ...

    @property
    def settings(self) -> AnswerSettings:
        """The settings that an answer depends on."""
        ...

    def answers(
        self, prompts: Sequence[Prompt], done: Collection[str] = (), keep: Keep = keep_nothing
    ) -> Iterator[tuple[Generation, ...]]:
        """Answers to the prompts whose ids are not in `done`, group by group; `keep` gets a group first.

        Of several processes the first gets all answers; `keep` gets those that were made in its own process.
        """
        ...
