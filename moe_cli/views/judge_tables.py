"""Formats judges and people's labels: who judged, how far that can be trusted, and what has no verdict.

The texts are shared by the terminal, Markdown and the report; nothing is computed. Every judge is listed once, with
what it decides in which runs. An agreement is always shown with how many answers both judges scored, of those that
both were asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from moe_cli.judges.judge import accuracy_text
from moe_cli.records import (
    QUESTIONS,
    Agreement,
    Estimate,
    EvaluationSummary,
    JudgeIdentity,
    LabelCorrection,
    LabelDraw,
    PairComparison,
)
from moe_cli.records.judging import deciding_place
from moe_cli.views.table import ALARM, CellRow, NarrowColumn, ReportTable, as_rich, cell_rows_of, columns_of
from moe_cli.views.text import NOTHING, count_of, percent_text, safe_text

NamedRuns = Sequence[tuple[str, EvaluationSummary]]
NO_RUN = "no run was judged here"
LETTERS = 16  # of a digest
WITHOUT_DEGENERATE = "Degenerate answers, which a rule decides for all judges alike, do not count."
SECONDS_AN_ANSWER = 40  # of a person who reads and decides


@dataclass(frozen=True, slots=True)
class JudgeOfRuns:
    """One judge, and its roles in the runs that it judged."""

    judge: JudgeIdentity
    roles: tuple[tuple[str, tuple[str, ...]], ...]  # (("harm", ("full", "selective")),)


def judges_of_runs(runs: NamedRuns) -> list[JudgeOfRuns]:
    """Every judge once, by name and revision, in the order of the runs."""
    known: dict[tuple[str, str], JudgeIdentity] = {}
    roles: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, summary in runs:
        for judge in summary.judges:
            key = judge.name, judge.revision
            known.setdefault(key, judge)
            roles.setdefault(key, {}).setdefault(_role(judge, summary), []).append(name)
    return [
        JudgeOfRuns(judge, tuple((role, tuple(names)) for role, names in roles[key].items()))
        for key, judge in known.items()
    ]


def _role(judge: JudgeIdentity, summary: EvaluationSummary) -> str:
    decides = [question for question in QUESTIONS if summary.judge_of(question) == judge]
    return " and ".join(decides) or "nothing here"


def roles_text(found: JudgeOfRuns, *, named: bool) -> str:
    """What a judge decides: `harm (in full, selective)`; without names of runs if there is one run."""
    return "; ".join(f"{role} (in {', '.join(names)})" if named else role for role, names in found.roles)


def judge_texts(runs: NamedRuns, *, named: bool = False) -> Iterator[Text]:
    """A line for each judge: what it decides, in which runs if they are named, and how far it can be trusted."""
    for found in judges_of_runs(runs):
        yield safe_text(f"judge: {trust_text(found.judge, f'decides {roles_text(found, named=named)}')}")


def deciding_texts(judges: Sequence[JudgeIdentity]) -> Iterator[str]:
    """Each of the judges that decided the same answers: what it decides, and how far it can be trusted."""
    for judge in judges:
        places = ((question, deciding_place(judges, question)) for question in QUESTIONS)
        decides = [question for question, place in places if place is not None and judges[place].name == judge.name]
        yield trust_text(judge, f"decides {' and '.join(decides) or 'nothing here'}")


def trust_text(judge: JudgeIdentity, decides: str) -> str:
    """The judge, what it decides, and how far it can be trusted."""
    source = f" ({judge.source})" if judge.source else ""
    published = f", as published {accuracy}" if (accuracy := accuracy_text(judge)) else ""
    test = "; a smoke test, no claim of safety rests on it" if judge.smoke_test else ""
    return f"{judge.name}{source}, {decides}{published}{test}"


def unscored_texts(runs: NamedRuns, *, named: bool = False) -> Iterator[Text]:
    """What the deciding judges left without a verdict, for every run where that is anything."""
    for name, summary in runs:
        if any(num for num, _ in summary.unscored.values()):
            of_run = f" in {name}" if named else ""
            style = "red" if summary.overly_unscored else ""
            yield safe_text(f"no verdict{of_run}: {unscored_text(summary)}", style=style)


def unscored_text(summary: EvaluationSummary) -> str:
    """`92 of 800 harmful, 0 of 400 benign (allowed 2.0 %)`."""
    counts = ", ".join(f"{num} of {answers} {kind}" for kind, (num, answers) in summary.unscored.items())
    allowed = "more than the allowed" if summary.overly_unscored else "allowed"
    return f"{counts or NOTHING} ({allowed} {percent_text(summary.max_unscored)})"


def judge_table(runs: NamedRuns) -> ReportTable:
    """Every judge once: what it decides in which runs, and how far it can be trusted."""
    head = ("judge", "decides", "published accuracy", "role", "source", "revision")
    rows = cell_rows_of([_judge(found) for found in judges_of_runs(runs)])
    return ReportTable("Who judged", head, rows, words=True, empty=NO_RUN)


def _judge(found: JudgeOfRuns) -> tuple[str, ...]:
    judge = found.judge
    return (
        judge.name,
        roles_text(found, named=True),
        accuracy_text(judge) or "not published",
        "smoke test: no claim of safety rests on it" if judge.smoke_test else "judge",
        judge.source or "built in",
        judge.revision[:LETTERS],
    )


def unscored_table(runs: NamedRuns) -> ReportTable:
    """Answers that the deciding judges left without a verdict, of how many, and whether that was allowed."""
    kinds = list(dict.fromkeys(kind for _, summary in runs for kind in summary.unscored))
    rows = []
    for name, summary in runs:
        counts = [count_of(*summary.unscored[kind]) if kind in summary.unscored else NOTHING for kind in kinds]
        too_many = bool(summary.overly_unscored)
        verdict = "more than allowed" if too_many else "within"
        rows.append(CellRow((name, *counts, percent_text(summary.max_unscored), verdict), ALARM if too_many else ""))
    head = ("run", *kinds, "allowed", "result")
    return ReportTable("Answers without a verdict", head, tuple(rows) if kinds else (), empty=NO_RUN)


def agreement_table(runs: NamedRuns, *, named: bool = True) -> ReportTable:
    """How far every two judges agree; without names of runs if there is one run."""
    head = ("run", "question", "judges", "agree", "kappa [95 %]", "scored by both")[not named :]
    rows = tuple(
        CellRow(
            (name, *_agreement(agreement, summary))[not named :], ALARM if summary.leaves_too_many(agreement) else ""
        )
        for name, summary in runs
        for agreement in summary.agreement
    )
    notes = (WITHOUT_DEGENERATE,) if rows else ()
    narrow = (*map(NarrowColumn, head[:-1]), NarrowColumn("by both"))
    return ReportTable("Agreement of the judges", head, rows, notes, empty=_no_agreement(runs), narrow=narrow)


def _agreement(found: Agreement, summary: EvaluationSummary) -> tuple[str, ...]:
    asked = summary.num_asked(found.question)
    return (
        found.question,
        f"{found.a}, {found.b}",
        percent_text(found.agreement),
        _kappa_text(found),
        str(found.n) if asked is None else f"{found.n} of {asked}",
    )


def _no_agreement(runs: NamedRuns) -> str:
    """Why no agreement can be shown."""
    if not runs:
        return NO_RUN
    several = any(len(summary.judges) > 1 for _, summary in runs)
    return (
        "not measured, no two judges of a run tell the same" if several else "not measured, one judge judged each run"
    )


def _kappa_text(found: Agreement) -> str:
    """`0.71 [0.60, 0.80]`; `-` where both judges always say the same one thing."""
    if found.kappa is None:
        return NOTHING
    if found.lower is None or found.upper is None:
        return f"{found.kappa:.2f}"
    return f"{found.kappa:.2f} [{found.lower:.2f}, {found.upper:.2f}]"


def draw_view(draw: LabelDraw) -> RenderableType:
    """How many of which items were drawn, and how long labelling them takes."""
    head = ("measure", "suite", "the judge says", "drawn", "of", "probability")
    rows = [
        (
            stratum.metric,
            stratum.suite,
            {None: "anything", True: "different things", False: "the same"}[stratum.changed],
            str(stratum.drawn),
            str(stratum.items),
            f"{stratum.probability:.3f}",
        )
        for stratum in draw.strata
    ]
    narrow = columns_of(head, num_left=3)
    hours = draw.answers * SECONDS_AN_ANSWER / 3600
    return Group(
        as_rich(ReportTable("Drawn to be labelled", head, cell_rows_of(rows), narrow=narrow)),
        safe_text(
            f"{draw.items} items, {draw.answers} answers of {draw.a} and {draw.b} (equal ones once); at"
            f" {SECONDS_AN_ANSWER} s each about {hours:.1f} hours of one person"
        ),
        safe_text("the file holds prompts and answers, which may be harmful to read; it names no run and no verdict"),
    )


def label_lines(pair: PairComparison) -> Iterator[str]:
    """What labels corrected in every primary metric, and how."""
    for difference in pair.differences:
        labels = difference.correction
        if difference.primary and labels is not None:
            errors = [_errors(name, shares) for name, shares in _of_judge(labels)]
            classic = labels.rogan_gladen
            yield (
                f"{difference.metric}, corrected by labels of {labels.n} of {difference.n} items (PPI++, weight of the "
                f"judge {labels.weight:.2f}): A {_estimate(labels.rate_a)} %, B {_estimate(labels.rate_b)} %; "
                f"{', '.join(errors)}; Rogan-Gladen, which needs equal errors in both arms, "
                f"{_estimate(classic, '+') if classic else NOTHING}"
            )


def _of_judge(labels: LabelCorrection) -> Sequence[tuple[str, tuple[float | None, float | None]]]:
    return (("sensitivity", labels.sensitivity), ("specificity", labels.specificity))


def _errors(name: str, shares: tuple[float | None, float | None]) -> str:
    a, b = (NOTHING if share is None else f"{share:.2f}" for share in shares)
    return f"{name} of the judge {a} (A) and {b} (B)"


def _estimate(estimate: Estimate, sign: str = "") -> str:
    lower, upper = estimate.lower or 0.0, estimate.upper or 0.0
    return f"{100 * estimate.value:{sign}.1f} [{100 * lower:{sign}.1f}, {100 * upper:{sign}.1f}]"
