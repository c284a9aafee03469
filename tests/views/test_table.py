"""A table shows the same cells on a terminal, in Markdown and in the report."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from moe_cli.views.compared_columns import side_by_side
from moe_cli.views.compared_tables import (
    adjusted_p_text,
    difference_table,
    fairness_table,
    flip_table,
    threshold_table,
)
from moe_cli.views.judge_tables import agreement_table, judge_table, unscored_table
from moe_cli.views.report.page import report_page, signed_text
from moe_cli.views.table import CellRow, NarrowColumn, ReportTable, as_markdown, as_rich
from tests.builders import difference
from tests.views.parsed_page import parsed
from tests.views.report_records import comparison, report_data


def drawn(table, width=80, **options):
    console = Console(file=StringIO(), width=width, markup=False, highlight=False, **options)
    console.print(as_rich(table))
    return console.file.getvalue()


def judged_comparison():
    found = comparison()
    counted = {"harmful": (9, 300), "benign": (0, 100)}
    columns = tuple(
        replace(column, evaluation=replace(column.evaluation, unscored=counted)) for column in found.columns
    )
    return replace(found, columns=columns)


def tables(found):
    judged = [(column.name, column.evaluation) for column in found.columns]
    return (
        side_by_side(found),
        difference_table(found.pairs[-1], found),
        fairness_table(found),
        threshold_table(found),
        judge_table(judged),
        unscored_table(judged),
        agreement_table(judged),
    )


@pytest.mark.parametrize("place", range(7))
def test_the_three_media_show_the_same_rows(place):
    found = judged_comparison()
    table = tables(found)[place]
    assert table.rows
    page = parsed(report_page(found, report_data(found)))
    in_html = [row.text for row in page.of("tr")]
    in_markdown = as_markdown(table).replace("\\", "").splitlines()
    for row in table.rows:
        cells = [cell.strip() for cell in row.cells]
        shown = cells if table.words else [cells[0], *map(signed_text, cells[1:])]
        assert "".join(shown) in in_html
        assert any(line.startswith(f"| {' | '.join(cells)} |") for line in in_markdown)
    rows = tuple(CellRow(row.cells) for row in table.rows)
    wide = drawn(ReportTable(table.title, table.head, rows), width=1000).splitlines()
    for row in table.rows:
        assert any(all(cell.strip() in line for cell in row.cells) for line in wide)


@pytest.mark.parametrize("place", range(7))
def test_a_table_stays_in_80_columns_and_has_its_notes_in_all_forms(place):
    table = tables(judged_comparison())[place]
    out = drawn(table)
    assert max(map(cell_len, out.splitlines())) <= 80
    for note in table.notes:
        assert note in " ".join(out.split()) and note in as_markdown(table).replace("\\", "")


NARROW = ReportTable(
    "Title",
    ("measure", "left out", "verdict"),
    (CellRow(("family",), "family"), CellRow(("a: b", "77", "worse"), "primary v-worse", ("a", "b"))),
    narrow=(NarrowColumn("measure", 9), None, NarrowColumn("is", 7)),
    borders=False,
)


def test_a_terminal_leaves_out_what_has_no_room_and_writes_a_shared_name_once_above():
    assert [line.split() for line in drawn(NARROW).splitlines() if "─" not in line] == [
        ["Title"],
        ["measure", "is"],
        ["family"],
        ["a"],
        ["b", "worse"],
    ]
    assert as_markdown(NARROW).splitlines()[-2:] == ["| family |  |  |", "| a: b | 77 | worse |"]


def test_the_cell_that_tells_a_rows_style_has_its_colour():
    out = drawn(NARROW, force_terminal=True, color_system="standard")
    assert "31m" in next(line for line in out.splitlines() if "worse" in line)
    assert "31m" not in next(line for line in out.splitlines() if "family" in line)


def test_an_empty_table_says_why_in_all_forms():
    found = comparison(num_flips=0)
    table = flip_table(found.pairs[0])
    assert table.rows == () and drawn(table) == "What flipped: no item flipped\n"
    assert as_markdown(table, 3) == "### What flipped\n\nno item flipped."


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.1062, "0.11"), (0.00123, "0.0012"), (0.00099, "0.001"), (1.6e-165, "2e-165")]
)
def test_an_adjusted_p_has_two_digits_or_below_0_001_one_and_fits_its_column(value, text):
    found = adjusted_p_text(difference("accuracy", "better", 0.1, 0.4, p_adjusted=value))
    assert found == text and len(found) <= 6


def test_a_negative_number_has_a_true_minus_and_a_name_keeps_its_hyphen():
    assert signed_text("-1.0 [-6.0, +4.0]") == "\u22121.0 [\u22126.0, +4.0]"
    assert signed_text("Olmo-1-7b 2026-11-22 -") == "Olmo-1-7b 2026-11-22 -"
