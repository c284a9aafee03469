"""The transfer table for the terminal, for Markdown and for the report: rows are preparations, columns are suites.

What is exploratory is said to be so beside the numbers. Computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moe_cli.records import Comparison
from moe_cli.records.attack_transfer import Transfer, TransferCell, TransferRow, UnionOverlap
from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.views.table import CellRow, ReportTable, cell_rows_of
from moe_cli.views.text import NOTHING

MOST_SUITES = 3  # of one table, so that it fits a terminal
TRAINED_ON = "trained on"
EXPLORATORY = (
    "Exploratory: no claim rests on this table. These arms were trained on other data (training data in the fairness "
    "gate), so that a row may differ from another in its goals, refusals and steps, not in its attack alone"
)


def transfer_tables(comparison: Comparison) -> tuple[ReportTable, ...]:
    """The transfer table and the overlap of the selections; none where all arms have one preparation."""
    found = comparison.transfer
    if found is None:
        return ()
    parts = [found.suites[start : start + MOST_SUITES] for start in range(0, len(found.suites), MOST_SUITES)]
    interval = f"{100 * comparison.confidence:.0f} %"
    notes = tuple(f"{note}." for note in _notes(found, interval))
    tables = (_transfer_table(found, part, notes if part is parts[-1] else ()) for part in parts)
    return (*tables, *((_overlap_table(found),) if found.overlaps else ()))


def _transfer_table(found: Transfer, suites: Sequence[str], notes: tuple[str, ...]) -> ReportTable:
    return ReportTable(
        title="Transfer: prepared on (rows), evaluated on (columns)",
        head=("prepared on", "arm", *(suite or ATTACK_SUCCESS for suite in suites)),
        rows=tuple(CellRow(tuple(_row_cells(row, suites))) for row in found.rows),
        notes=notes,
        words=True,
    )


def _row_cells(row: TransferRow, suites: Sequence[str]) -> Iterator[str]:
    experts = "every parameter" if row.num_experts is None else f"{row.num_experts} experts"
    yield " + ".join(row.prepared_on)
    yield f"{row.arm} ({experts})"
    cells = {cell.suite: cell for cell in row.cells}
    for suite in suites:
        yield _cell_text(cells[suite]) if suite in cells else NOTHING


def _cell_text(cell: TransferCell) -> str:
    """`8.0 % (n 40); -83.7 [-87.1, -79.8]; trained on`."""
    parts = [f"{100 * cell.rate:.1f} % (n {cell.n})"]
    if cell.change is not None and cell.lower is not None and cell.upper is not None:
        parts.append(f"{100 * cell.change:+.1f} [{100 * cell.lower:+.1f}, {100 * cell.upper:+.1f}]")
    if cell.trained_on:
        parts.append(TRAINED_ON)
    return "; ".join(parts)


def _notes(found: Transfer, interval: str) -> Iterator[str]:
    has_change = any(cell.change is not None for row in found.rows for cell in row.cells)
    change = f"; then the change from the base in points with its paired {interval} interval" if has_change else ""
    yield f"Attack success{change}; {TRAINED_ON}: the suite has the name of an attack of the preparation"
    if not has_change:
        yield "No change is shown: add the untrained model (--base)"
    yield EXPLORATORY
    if found.unknown:
        yield f"Not known what was prepared on: {', '.join(found.unknown)}"


def _overlap_table(found: Transfer) -> ReportTable:
    head = ("selections of", "experts", "shared", "Jaccard", "shared by chance", "p")
    notes = ("By chance: random sets with as many experts of each layer; p: that they share at least as many.",)
    return ReportTable("Overlap of the selections", head, cell_rows_of(map(_overlap_cells, found.overlaps)), notes)


def _overlap_cells(one: UnionOverlap) -> tuple[str, ...]:
    return (
        f"{one.a}, {one.b}",
        f"{one.num_a}, {one.num_b}",
        str(one.num_shared),
        f"{one.jaccard:.2f}",
        f"{one.expected:.1f}",
        f"{one.p_value:.2g}",
    )
