"""A sweep for the terminal, 80 columns wide, and as Markdown: `sweep.md`; and its dry run. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType

from moe_cli.records import PlannedPoint, Sweep, SweepPlan
from moe_cli.views.sweep_tables import (
    area_table,
    arm_table,
    findings,
    point_name,
    point_table,
    sequence_table,
    share_text,
    sweep_findings,
)
from moe_cli.views.table import CellRow, NarrowColumn, ReportTable, as_markdown, as_rich
from moe_cli.views.text import NOTHING, bytes_text, markdown_text, safe_text, seconds_text

UNKNOWN = "not measured"


def swept_view(sweep: Sweep) -> RenderableType:
    """Arms and findings, and the points that are missing."""
    missing = tuple(point for point in sweep.points if point.state != "complete" or point.reason is not None)
    return Group(
        as_rich(arm_table(sweep)),
        *([as_rich(_missing_table(sweep))] if missing else []),
        as_rich(sweep_findings(sweep)),
    )


def _missing_table(sweep: Sweep) -> ReportTable:
    rows = [
        CellRow(
            (
                point_name(one.point),
                share_text(one.point.budget),
                str(one.point.draw or NOTHING),
                str(one.point.seed),
                f"{one.state}: {one.reason or 'not made'}",
            )
        )
        for one in sweep.points
        if one.state != "complete" or one.reason is not None
    ]
    overly = any(point.is_overly_unscored for point in sweep.points)
    title = "Points that failed or lack verdicts" if overly else "Points that failed"
    return ReportTable(title, ("point", "budget", "draw", "seed", "reason"), tuple(rows), words=True)


def swept_markdown(sweep: Sweep) -> str:
    """The whole sweep as Markdown."""
    return "\n\n".join(_parts(sweep)) + "\n"


def _parts(sweep: Sweep) -> Iterator[str]:
    yield "# Sweep over budgets"
    yield "\n".join(f"- {markdown_text(sentence)}" for sentence in findings(sweep))
    for table in (arm_table(sweep), sequence_table(sweep), area_table(sweep), point_table(sweep.points)):
        yield as_markdown(table)


def sweep_plan_view(plan: SweepPlan) -> RenderableType:
    """What a sweep would make, with what is known of share, time and memory."""
    to_do = [one for one in plan.points if not one.is_complete]
    seconds = [one.seconds for one in to_do]
    known = [second for second in seconds if second is not None]
    total = seconds_text(sum(known)) if to_do and len(known) == len(to_do) else UNKNOWN
    lines = [f"{len(plan.points)} points, {len(plan.points) - len(to_do)} of them complete; {plan.at_once} at once"]
    if to_do:
        lines.append(f"training of the {len(to_do)} others, one after the other: {total}")
    return Group(as_rich(_plan_table(plan)), *(safe_text(line) for line in (*lines, *plan.notes)))


def _plan_table(plan: SweepPlan) -> ReportTable:
    rows = tuple(CellRow(_plan_cells(one)) for one in plan.points)
    head = ("point", "budget", "draw", "seed", "state", "share at most", "training", "memory")
    columns = tuple(NarrowColumn(name, left=place == 0) for place, name in enumerate(head))
    return ReportTable("Points", head, rows, borders=False, narrow=columns)


def _plan_cells(one: PlannedPoint) -> tuple[str, ...]:
    point = one.point
    return (
        point_name(point),
        share_text(point.budget),
        NOTHING if point.draw is None else str(point.draw),
        str(point.seed),
        "complete" if one.is_complete else "to do",
        NOTHING if one.share is None else share_text(one.share),
        UNKNOWN if one.seconds is None else seconds_text(one.seconds),
        UNKNOWN if one.memory is None else bytes_text(one.memory),
    )
