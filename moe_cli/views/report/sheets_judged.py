"""The tables about the judges, for the report and the Markdown document: who judged, what has no verdict, agreement.

Comes in: the evaluations of a comparison. Goes out: `Sheet`s. Formats, never computes. Always holds: a judge stands
once, with what it decides in which runs; every count stands with the whole that it is of.
"""

from __future__ import annotations

from moe_cli.judges.judge import accuracy_text
from moe_cli.views.judged import (
    JudgeOfRuns,
    NamedRuns,
    both_text,
    judges_of_runs,
    kappa_text,
    roles_text,
    too_few_by_both,
    too_many_unscored,
)
from moe_cli.views.numbers import NOTHING, count_of, percent_text
from moe_cli.views.report.sheets import CellRow, ReportTable, cell_rows_of

LETTERS = 16  # of a digest
ALARM = "v-worse"
WITHOUT_DEGENERATE = "Degenerate answers, which a rule decides for all judges alike, do not count."


def judge_sheet(runs: NamedRuns) -> ReportTable:
    """Every judge once: what it decides in which runs, and how far it can be trusted."""
    head = ("judge", "decides", "published accuracy", "role", "source", "revision")
    return ReportTable("Who judged", head, cell_rows_of([_judge(found) for found in judges_of_runs(runs)]), words=True)


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


def unscored_sheet(runs: NamedRuns) -> ReportTable:
    """The answers that the judges that decide left without a verdict, of all, and whether that was allowed."""
    kinds = list(dict.fromkeys(kind for _, summary in runs for kind in summary.unscored))
    rows = []
    for name, summary in runs:
        counts = [count_of(*summary.unscored[kind]) if kind in summary.unscored else NOTHING for kind in kinds]
        too_many = too_many_unscored(summary)
        verdict = "more than allowed" if too_many else "within"
        rows.append(CellRow((name, *counts, percent_text(summary.max_unscored), verdict), ALARM if too_many else ""))
    return ReportTable("Answers without a verdict", ("run", *kinds, "allowed", "result"), tuple(rows) if kinds else ())


def agreement_sheet(runs: NamedRuns) -> ReportTable:
    """How far every two judges agree."""
    head = ("run", "question", "judges", "agree", "kappa [95 %]", "scored by both")
    rows = tuple(
        CellRow(
            (
                name,
                found.question,
                f"{found.a}, {found.b}",
                percent_text(found.agreement),
                kappa_text(found),
                both_text(found, summary),
            ),
            ALARM if too_few_by_both(found, summary) else "",
        )
        for name, summary in runs
        for found in summary.agreement
    )
    return ReportTable("Agreement of the judges", head, rows, (WITHOUT_DEGENERATE,) if rows else ())


def no_agreement(runs: NamedRuns) -> str:
    """Why there is no agreement."""
    if not runs:
        return "no run was judged here"
    several = any(len(summary.judges) > 1 for _, summary in runs)
    return (
        "not measured, no two judges of a run tell the same" if several else "not measured, one judge judged each run"
    )
