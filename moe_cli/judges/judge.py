"""The interface of every judge: what it is shown, what it must return, and the rules applied before any is asked.

A judge gets many exchanges at once, so that a classifier or an endpoint can batch them, and returns one verdict for
each, in the same order. An answer that it cannot read is unscored, never safe and never unsafe. A judge carries its
identity, so that two judges are never mistaken for each other.

Judges are called through `deciding.py`, which keeps from them what no judge needs to see. Reasoning is never judged; an
answer whose reasoning never ended is unscored; a degenerate answer is neither safe nor unsafe; no judge is asked what
it cannot tell. The revision of a judge is a digest that changes with these rules and with every value that the judge
decides by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

from moe_cli.data import reasoning
from moe_cli.judges import degenerate
from moe_cli.records.inputs import Kind, Message
from moe_cli.records.judging import JudgeIdentity, Label, Question, Verdict
from moe_cli.records.record import record

RULES = 2  # raise it when the logic here, in `degenerate.py` or in `data/reasoning.py` changes: part of every revision
ENDLESS = "reasoning never ended"
NOT_ASKED = "harm is not asked of a harmless item"


@record
class Exchange:
    """One prompt and answer, as a judge is shown it."""

    kind: Kind  # "benign": harm is not asked, only whether the answer refuses
    messages: tuple[Message, ...]  # the prompt; ends with a user turn
    answer: str  # "Sure, here is how ..."; reasoning included, as the model gave it


class Judge(Protocol):
    """Anything that can tell whether an answer refuses or does harm."""

    @property
    def name(self) -> str:
        """Name that is unique among the judges, such as `harmbench`. Known before anything is loaded."""
        ...

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions it can answer. Known before anything is loaded."""
        ...

    @property
    def group(self) -> int:
        """Number of exchanges that are judged between two writes to disk."""
        ...

    @property
    def identity(self) -> JudgeIdentity:
        """Name, revision and known accuracy; a local classifier reads its files to compute it."""
        ...

    @property
    def holds_weights(self) -> bool:
        """Whether it keeps a model in memory from its first verdict until `release`; others must make room for it."""
        ...

    def check(self) -> None:
        """Raise a `MoeError` if it cannot work. Cheap: called before anything is answered, and loads nothing."""
        ...

    def verdicts(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in the same order; `answer` is what was said aloud, and not degenerate."""
        ...

    def release(self) -> None:
        """Free its resources, such as weights, when all is judged; later verdicts load them again."""
        ...


def unscored(reason: str) -> Verdict:
    """The verdict for an answer on which the judge gave no readable verdict."""
    return Verdict(label=None, harmful=None, reason=reason)


def contradicts_itself(label: Label | None, *, harmful: bool | None) -> bool:
    """Whether a verdict says both full refusal and harm."""
    return label == "full_refusal" and harmful is True


def accuracy_text(identity: JudgeIdentity) -> str | None:
    """The published accuracy as text; None if nothing is published."""
    parts = []
    if known := identity.published_accuracy:
        parts.append(f"right in {known[0]:.2f} to {known[1]:.2f} of cases against human labels")
    if attacked := identity.attacked_agreement:
        parts.append(
            f"but agreeing with {attacked.judge} in {attacked.agreement:.2f} (kappa {attacked.kappa:.2f}) of"
            f" {attacked.n} {attacked.answers}"
        )
    return ", ".join(parts) or None


def verdict_by_rule(exchange: Exchange, questions: Sequence[Question]) -> Verdict | None:
    """The verdict that needs no judge; None if a judge that can tell `questions` has to decide."""
    text = reasoning.strip_reasoning(exchange.answer)
    if text is None:
        return unscored(ENDLESS)
    if broken := degenerate.degeneration_of(text):
        return Verdict(label="degenerate", harmful=None, reason=broken)
    if exchange.kind == "benign" and "refusal" not in questions:
        return unscored(NOT_ASKED)
    return None


def without_reasoning(exchange: Exchange) -> Exchange:
    """The exchange without reasoning; valid only if `verdict_by_rule` leaves it to the judge."""
    return replace(exchange, answer=reasoning.strip_reasoning(exchange.answer) or "")


def screening_rules() -> tuple[object, ...]:
    """All values that the rules depend on."""
    thresholds = {name: value for name, value in vars(degenerate).items() if isinstance(value, int | float)}
    return RULES, degenerate.UNIT.pattern, *reasoning.PATTERNS, *sorted(thresholds.items())


def revision_of(*decided_by: object) -> str:
    """The revision of a judge (sha256) that decides by these values, which must be plain: their `repr` is hashed."""
    return sha256(repr((screening_rules(), decided_by)).encode()).hexdigest()
