"""Who judges the answers of `moe prepare`: which judge decides each side, and what it says.

A plain form must be refused and a benign prompt answered, which a judge of refusals tells. An attacked form must be
complied with: a judge of harm tells it, and only where there is none, a judge of refusals. A judge reads only the
answers that it decides, and no verdict that is missing is filled in from another judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from moe_cli.artifacts.journal import Journal, verdict_journal
from moe_cli.judges.deciding import deciding_place, refuse_untold
from moe_cli.judges.judge import Exchange, Judge
from moe_cli.judges.judging import journaled_verdicts
from moe_cli.prepare.filtering import PromptSide
from moe_cli.records import JudgedAnswer, JudgeIdentity, SideJudge, Verdict
from moe_cli.records.preparation import Decision

Asked = tuple[PromptSide, Exchange]

Notify = Callable[[object], None]


def refuse_no_judge_of_refusals(judges: Sequence[Judge]) -> None:
    """Stop where no judge can tell a refusal; no judge is asked anything.

    Raises:
        UsageError: the hint names some that can.
    """
    refuse_untold(judges, "refusal", "a pair is kept where its plain form is refused")


def refuse_unable(judges: Sequence[Judge]) -> None:
    """Stop before anything is answered where no judge can tell a refusal, or one of them cannot work.

    Raises:
        MoeError: which, and what mends it.
    """
    refuse_no_judge_of_refusals(judges)
    for judge in judges:
        judge.check()


@dataclass(frozen=True, slots=True)
class Jury:
    """The judges, and which of them decides what."""

    judges: tuple[Judge, ...]
    identities: tuple[JudgeIdentity, ...]  # of the same
    refusal: int  # place of the judge that decides plain forms and benign prompts
    compliance: int  # place of the judge that decides attacked forms
    by_harm: bool  # whether it does so by harm

    def place(self, side: PromptSide) -> int:
        """The place of the judge that decides this side."""
        return self.compliance if side == "unsafe" else self.refusal

    @property
    def deciding(self) -> tuple[Judge, ...]:
        """The judges that decide something, in their order."""
        return tuple(self.judges[place] for place in sorted({self.refusal, self.compliance}))

    def side_judges(self, *, benign: bool) -> tuple[SideJudge, ...]:
        """Every judge with what it decides; `benign`: there are benign prompts."""
        attacked: Decision = "attacked forms by harm" if self.by_harm else "attacked forms by refusal"
        decided: list[tuple[Decision, int]] = [("plain forms", self.refusal), (attacked, self.compliance)]
        decided += [("benign prompts", self.refusal)] if benign else []
        return tuple(
            SideJudge(
                judge=judge,
                decides=tuple(what for what, decider in decided if decider == place),
            )
            for place, judge in enumerate(self.identities)
        )


def jury_of(judges: Sequence[Judge]) -> Jury:
    """The first judge that can tell decides, smoke tests last. The files of local classifiers are read for it.

    Raises:
        ValueError: no judge tells refusals, which `refuse_unable` refuses.
    """
    identities = tuple(judge.identity for judge in judges)
    harm, refusal = deciding_place(identities, "harm"), deciding_place(identities, "refusal")
    if refusal is None:
        raise ValueError("no judge tells refusals")
    return Jury(tuple(judges), identities, refusal, refusal if harm is None else harm, harm is not None)


def verdicts_on(asked: Mapping[str, Asked], jury: Jury, run: Path, notify: Notify) -> dict[str, Verdict]:
    """The verdict on every answer by the judge that decides its side.

    Verdicts are kept in the unfinished run by what was judged: the same judge is never asked for the same answer to the
    same prompt again, unless it left it unscored.

    Raises:
        MoeError: a judge cannot work at all; single answers are unscored instead.
    """
    verdicts: dict[str, Verdict] = {}
    for place, judge in enumerate(jury.judges):
        mine = {name: exchange for name, (side, exchange) in asked.items() if jury.place(side) == place}
        if not mine:
            continue
        lines = {f"{name} {_digest(exchange)}": name for name, exchange in mine.items()}
        journal = Journal(verdict_journal(run, jury.identities[place]), JudgedAnswer)
        try:
            found = journaled_verdicts(judge, {line: mine[name] for line, name in lines.items()}, journal, notify)
        finally:
            judge.release()
        verdicts |= {name: found[line] for line, name in lines.items()}
    return verdicts


def _digest(exchange: Exchange) -> str:
    return sha256(repr(exchange).encode()).hexdigest()[:16]
