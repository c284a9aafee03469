"""A table of text, and its forms on a terminal and in Markdown; the report's template makes HTML of it.

A cell is plain text; each form escapes it here or, for HTML, in `report.page`. A style is a class name of the report
and a colour on the terminal. An empty table says why. No data is `-`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table

from moe_cli.views.text import markdown_table, markdown_text, safe_text

ALARM = "v-worse"
COLOURS = {"v-better": "green", "v-worse": "red", "gate-differs": "red", "gate-unknown": "yellow"}
WEIGHTS = {"primary": "bold", "family": "italic"}
GROUP = "group"  # the style of a row with a line above it


@dataclass(frozen=True, slots=True)
class CellRow:
    """One row of a table."""

    cells: tuple[str, ...]
    style: str = ""  # class names
    narrow: tuple[str, str] | None = None  # ("attack success", "attacked"): on a terminal the first stands once above


@dataclass(frozen=True, slots=True)
class NarrowColumn:
    """A column on a terminal of 80 columns."""

    head: str
    width: int | None = None  # None: as wide as its cells
    left: bool = True


@dataclass(frozen=True, slots=True)
class ReportTable:
    """One table; its first column names the rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[CellRow, ...]
    notes: tuple[str, ...] = ()
    words: bool = False  # cells hold words, which stand at the left
    empty: str = "not measured"  # what is said in place of no rows
    narrow: tuple[NarrowColumn | None, ...] = ()  # None: left out on a terminal; (): the columns as they are
    borders: bool = True  # on a terminal
    telling: int = -1  # place of the cell that tells a row's style, and has its colour


def cell_rows_of(cells: Iterable[tuple[str, ...]]) -> tuple[CellRow, ...]:
    """Rows without a style."""
    return tuple(CellRow(each) for each in cells)


def columns_of(head: Sequence[str], num_left: int) -> tuple[NarrowColumn, ...]:
    """The columns for a terminal, the first so many of which hold words."""
    return tuple(NarrowColumn(name, left=place < num_left) for place, name in enumerate(head))


def facts_view(title: str, facts: Iterable[tuple[str, str]]) -> RenderableType:
    """Names and values for a terminal."""
    return as_rich(ReportTable(title, ("", ""), cell_rows_of(facts), words=True))


def as_markdown(table: ReportTable, level: int = 2) -> str:
    """Heading, table and notes as Markdown, every cell escaped."""
    width = len(table.head)
    rows = ([cell.strip() for cell in row.cells] + [""] * (width - len(row.cells)) for row in table.rows)
    shown = markdown_table(table.head, rows) if table.rows else f"{table.empty}."
    notes = "\n".join(f"- {markdown_text(note)}" for note in table.notes)
    return "\n\n".join(filter(None, (f"{'#' * level} {markdown_text(table.title)}", shown, notes)))


def as_rich(table: ReportTable) -> RenderableType:
    """The table for a terminal, with its notes below it."""
    notes = [safe_text(note) for note in table.notes]
    if not table.rows:
        return Group(safe_text(f"{table.title}: {table.empty}"), *notes)
    columns = table.narrow or columns_of(table.head, num_left=len(table.head) if table.words else 1)
    drawn = _columns(table, columns)
    above = ""
    for row in table.rows:
        styles = row.style.split()
        if GROUP in styles:
            drawn.add_section()
        group, name = row.narrow or ("", row.cells[0])
        if group and group != above:
            drawn.add_row(safe_text(group))
        above = group
        cells = [safe_text(cell) for cell in (f"  {name}" if group else name, *row.cells[1:])]
        for style in COLOURS.keys() & set(styles):
            cells[table.telling].stylize(COLOURS[style])
        shown = [cell for cell, column in zip(cells, columns, strict=False) if column is not None]
        drawn.add_row(*shown, style=" ".join(WEIGHTS[style] for style in styles if style in WEIGHTS))
    return Group(drawn, *notes)


def _columns(table: ReportTable, columns: Sequence[NarrowColumn | None]) -> Table:
    """The table without rows."""
    named = any(column.head for column in columns if column)
    drawn = Table(title=safe_text(table.title), title_justify="left", show_header=named)
    if not table.borders:
        drawn.box, drawn.show_edge, drawn.pad_edge = box.SIMPLE_HEAD, False, False
        drawn.padding = 0 if any(column and column.width for column in columns) else (0, 1, 0, 0)
    for column in columns:
        if column is not None:
            justify: JustifyMethod = "left" if column.left else "right"
            drawn.add_column(safe_text(column.head), width=column.width, justify=justify, overflow="fold")
    return drawn
