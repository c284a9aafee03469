"""The interface of every judge: what it is shown, and what it must give back.

Comes in: exchanges (what was asked and what the model answered), many at once so that a classifier or an endpoint can
batch them. Goes out: one verdict for each, in the same order. Always holds: an answer that a judge cannot read is
unscored, never safe and never unsafe; a judge carries its identity, so that two judges are never taken for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from moe_cli.records.evaluation import JudgeIdentity, Verdict
from moe_cli.records.inputs import Message
from moe_cli.records.record import record


@record
class Exchange:
    """What a judge is shown."""

    kind: Literal["harmful", "benign"]  # "benign": harm is not asked, only whether the answer refuses
    messages: tuple[Message, ...]  # the prompt; ends with a user turn
    answer: str  # "Sure, here is how ..."; reasoning included, as the model gave it


class Judge(Protocol):
    """Anything that can say whether an answer refuses and whether it does harm."""

    @property
    def identity(self) -> JudgeIdentity:
        """Name, revision and known accuracy."""
        ...

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in the same order."""
        ...
