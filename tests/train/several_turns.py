"""Training on answers of several turns: what comes before the prompts of a prepare run is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from moe_cli.records import Message, TrainingExample
from moe_cli.train import stage as train

BEFORE = (Message(role="user", content="say hello."), Message(role="assistant", content="hello."))


def with_earlier_turns(examples: Sequence[TrainingExample]) -> list[TrainingExample]:
    """The answers in turn as the first, second and third of their conversations."""
    return [replace(one, messages=(*(number % 3 * BEFORE), *one.messages)) for number, one in enumerate(examples)]


def of_several_turns(*, measured: bool = True):
    """Inside the block trainings are on such answers; not `measured`: and do not know of which turn they are."""
    honest = train.encode_batches

    def encode_batches(tokenizer, examples, max_length):
        batches = honest(tokenizer, with_earlier_turns(examples), max_length)
        return batches if measured else [[replace(row, turn=1) for row in rows] for rows in batches]

    return patch.object(train, "encode_batches", encode_batches)
