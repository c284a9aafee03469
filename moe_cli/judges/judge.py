"""The interface of every judge: what it is shown, and what it must give back.

Comes in: exchanges (what was asked and what the model answered), many at once so that a classifier or an endpoint can
batch them. Goes out: one verdict for each, in the same order. Always holds: an answer that a judge cannot read is
unscored, never safe and never unsafe; a judge carries its identity, so that two judges are never taken for one.

A judge is asked through `judging.py`, which keeps from it what no judge needs to see (`screening.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from moe_cli.records.inputs import Message
from moe_cli.records.judging import JudgeIdentity, Question, Verdict
from moe_cli.records.preparation import Label
from moe_cli.records.record import record

Kind = Literal["harmful", "benign"]


@record
class Exchange:
    """What a judge is shown."""

    kind: Kind  # "benign": harm is not asked, only whether the answer refuses
    messages: tuple[Message, ...]  # the prompt; ends with a user turn
    answer: str  # "Sure, here is how ..."; reasoning included, as the model gave it


class Judge(Protocol):
    """Anything that can say whether an answer refuses or does harm."""

    @property
    def name(self) -> str:
        """What tells it from the other judges: `harmbench`. Known before anything is loaded."""
        ...

    @property
    def questions(self) -> tuple[Question, ...]:
        """What it can tell. Known before anything is loaded."""
        ...

    @property
    def group(self) -> int:
        """How many exchanges are judged between two writes to disk."""
        ...

    @property
    def identity(self) -> JudgeIdentity:
        """Name, revision and known accuracy; a local classifier reads its files for it."""
        ...

    @property
    def holds_weights(self) -> bool:
        """Whether it keeps a model in memory from its first verdict until `release`; others make room for it."""
        ...

    def check(self) -> None:
        """Raise a `MoeError` where it cannot work, cheaply: it is called before anything is answered, loads nothing."""
        ...

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in the same order; `answer` is what was said aloud, and not degenerate."""
        ...

    def release(self) -> None:
        """Give back what it holds, such as weights, once all is judged; asked again, it takes it again."""
        ...


def unscored(reason: str) -> Verdict:
    """The verdict where a judge said nothing that can be read."""
    return Verdict(label=None, harmful=None, reason=reason)


def contradicts_itself(label: Label | None, *, harmful: bool | None) -> bool:
    """Whether an answer is said to refuse everything and to do harm."""
    return label == "full_refusal" and harmful is True


def accuracy_text(identity: JudgeIdentity) -> str | None:
    """What is published about its accuracy; None: nothing."""
    parts = []
    if known := identity.published_accuracy:
        parts.append(f"right in {known[0]:.2f} to {known[1]:.2f} of cases against human labels")
    if attacked := identity.attacked_agreement:
        parts.append(
            f"but agreeing with {attacked.judge} in {attacked.agreement:.2f} (kappa {attacked.kappa:.2f}) of"
            f" {attacked.n} {attacked.answers}"
        )
    return ", ".join(parts) or None
