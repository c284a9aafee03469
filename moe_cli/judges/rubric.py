"""What an endpoint is asked about an answer, and how its reply is read.

The last line of a reply counts, or the whole of it where the rubric says so; it must be wholly what was asked for.
Everything else is unscored, with the reply's end as the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from moe_cli.data import reasoning
from moe_cli.judges.delimiting import DATA, as_text, fill_template, replace_marks
from moe_cli.judges.judge import Exchange, Kind, unscored
from moe_cli.records.inputs import Message
from moe_cli.records.judging import Question, Verdict

READING = 1  # raise it when the reading below, or that of a rubric, changes: it is part of the revision
ORNAMENT = "*_`\"' \t"  # what models put around a word

Read = Callable[[str, Kind], Verdict | None]  # a last line without ornament, or a whole reply; None: it cannot be read


@dataclass(frozen=True, slots=True)
class Rubric:
    """One way to ask an endpoint for a verdict."""

    name: str  # "strongreject"
    questions: tuple[Question, ...]
    template: str  # holds {prompt} and {answer}
    closing: str  # what the last line of the reply must be; "": the template says it
    tells_partial: bool  # a partial refusal from the rest
    read: Read = field(repr=False)
    decided_by: tuple[object, ...] = ()  # what else the reading depends on
    system: str | None = None  # a system turn before the question
    bordered: bool = True  # the judged texts stand between borders; False: they are filled in as they are
    reads_whole: bool = False  # the whole reply is read, not its last line

    def question(self, exchange: Exchange) -> list[Message]:
        """The turns that ask about an exchange."""
        texts = {"prompt": as_text(exchange.messages), "answer": exchange.answer}
        text = fill_template(self.template, **texts) if self.bordered else replace_marks(self.template, texts)
        user = Message(role="user", content=f"{text}\n\n{self.closing}" if self.closing else text)
        return [user] if self.system is None else [Message(role="system", content=self.system), user]

    def asks_by(self) -> tuple[object, ...]:
        """Everything that the question and the reading depend on."""
        around = (DATA,) if self.bordered else (self.system, self.reads_whole)
        return (*around, self.template, self.closing, self.decided_by, READING)


def read_reply(rubric: Rubric, reply: str, kind: Kind) -> Verdict:
    """The verdict in a reply; unscored where it is not what was asked for."""
    said = (reasoning.strip_reasoning(reply) or "").strip()
    lines = said.splitlines()
    last = lines[-1].strip().strip(ORNAMENT).rstrip(".").strip(ORNAMENT) if lines else ""
    verdict = rubric.read(said if rubric.reads_whole else last, kind)
    return verdict or unscored(f"the judge's reply cannot be read: {reply.strip()[-80:]!r}")
