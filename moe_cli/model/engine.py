"""The interface of whatever answers prompts.

Each group of `Generation`s is returned as soon as it is made. An engine states what its answers depend on, so that
answers made in another way are never mistaken for its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from moe_cli.records import AnswerSettings, Generation, Message


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

    def answers(self, prompts: Sequence[Prompt], done: Collection[str]) -> Iterator[tuple[Generation, ...]]:
        """Answers to the prompts whose ids are not in `done`, group by group."""
        ...
