"""Experts named by a person in a file: a list, a config of ESFT, or a table with one row for each expert.

Columns are found by name in any order and case. Every error names file and row. Every named expert exists in the model
and is named once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_cli.data import Location, Table, read_table, refuse_bad_rows, source_of
from moe_cli.data.json_objects import shown_keys
from moe_cli.data.json_rows import RepeatedKeyError, parse_values
from moe_cli.data.rows import ReadRow, cell_of, is_index, is_missing_cell, number_of_cell, truth_of_cell
from moe_cli.data.tables import Content, content_of_file
from moe_cli.errors import UsageError
from moe_cli.records import Expert, ModelIdentity

FORMAT = (
    "write a JSON list of [layer, expert], such as [[7, 31], [8, 2]]; or a config of ESFT, such as "
    '{"experts": {"7": [31]}}; or a CSV table with the columns layer, expert and risk_diff'
)


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """A table row about one expert."""

    place: str  # "counts.csv [row 7]"
    expert: Expert
    cells: Mapping[str, str]  # by column name in lower case

    def number(self, column: str, hint: str) -> float:
        """The finite number in a column.

        Raises:
            UsageError: it is none.
        """
        value = number_of_cell(self.cells[column])
        if value is None or not math.isfinite(value):
            raise UsageError(f"{self.place}: {column} is {self.cells[column]!r}, not a number", hint=hint)
        return value


def expert_rows(file: Path, columns: Collection[str], hint: str) -> tuple[ExpertRow, ...]:
    """Every row of a table that has `layer`, `expert` and the named columns.

    Raises:
        UsageError: no such file, unreadable, a column is missing or stands twice, a row has another number of cells, no
            layer and expert, or an expert that an earlier row has; no row at all.
    """
    table = read_table(source_of(str(file), accepted=hint), shape="table")
    refuse_bad_rows(table.faults, 0, hint=hint)
    if not table.rows:
        raise UsageError(f"{file} holds no row", hint=hint)
    _refuse_missing(table, {"layer", "expert", *columns}, hint)
    rows = tuple(_row(row, location, hint) for location, row in table.rows)
    _refuse_twice(rows, hint)
    return rows


def _refuse_missing(table: Table, needed: Collection[str], hint: str) -> None:
    keys = set() if table.are_texts else table.keys()
    if missing := sorted(set(needed) - keys):
        raise UsageError(
            f"{table.source.name} lacks the columns {', '.join(missing)}; it has {shown_keys(sorted(keys)) or 'none'}",
            hint=hint,
        )


def _row(row: ReadRow, location: Location, hint: str) -> ExpertRow:
    cells = {name: cell_of(value).strip() for name, value in row.items()}
    for column in ("layer", "expert"):
        cells[column] = cells[column].removesuffix(".0")  # as pandas writes a column of numbers with a gap
        if not is_index(cells[column]):
            raise UsageError(f"{location}: {column} is {cells[column]!r}, not a whole number from 0", hint=hint)
    return ExpertRow(str(location), Expert(layer=int(cells["layer"]), index=int(cells["expert"])), cells)


def _refuse_twice(rows: Sequence[ExpertRow], hint: str) -> None:
    first: dict[Expert, str] = {}
    for row in rows:
        if row.expert in first:
            raise UsageError(
                f"{row.place}: expert {row.expert.index} of layer {row.expert.layer} stands in {first[row.expert]} too",
                hint=hint,
            )
        first[row.expert] = row.place


@dataclass(frozen=True, slots=True)
class NamedExperts:
    """The experts named in a file."""

    indices: tuple[int, ...]  # flat, layer-major over the expert layers, ascending
    scores: tuple[float, ...] | None = None  # risk differences of a table, in that order; None: a list
    remark: str | None = None  # what the file asks for beside experts


@dataclass(frozen=True, slots=True)
class ListedExperts:
    """The experts that a file lists, whether the model has them or not."""

    experts: tuple[tuple[str, Expert], ...]  # each with its location
    scores: tuple[float, ...] | None = None  # risk differences of a table, in that order; None: a list
    remark: str | None = None


def read_named_experts(file: Path, base: ModelIdentity) -> NamedExperts:
    """The experts in `file`. A table with a column `selected` is a list of its selected rows.

    Raises:
        UsageError: no such file, another format, or an expert that the model does not have.
    """
    listed = read_listed_experts(file)
    indices = [_flat_index(expert, location, base) for location, expert in listed.experts]
    if listed.scores is None:
        return NamedExperts(tuple(sorted(set(indices))), remark=listed.remark)
    scored = sorted(zip(indices, listed.scores, strict=True))
    return NamedExperts(tuple(index for index, _ in scored), tuple(score for _, score in scored))


def read_listed_experts(file: Path) -> ListedExperts:
    """The experts that `file` lists; no model is needed.

    Raises:
        UsageError: no such file, or another format.
    """
    content = _json_value(content_of_file(file, FORMAT), file)
    if content is None or _holds_rows(content):
        return _of_table(file)
    experts = list(_of_config(content, file) if isinstance(content, dict) else _of_list(content, file))
    if not experts:
        raise UsageError(f"{file} holds no list of experts", hint=FORMAT)
    remark = _remark(content) if isinstance(content, dict) else None
    return ListedExperts(tuple((str(file), expert) for expert in experts), remark=remark)


def refuse_unreadable_selection(file: Path | None) -> None:
    """Refuse a selection file before the model is loaded; None is no file.

    Raises:
        UsageError: as `read_listed_experts`.
    """
    if file is not None:
        read_listed_experts(file)


def _json_value(text: Content, file: Path) -> object | None:
    """The one JSON value of a text; None where it is not JSON, or has one row a line."""
    if not isinstance(text, str) or not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return parse_values(text, str(file), FORMAT)
    except RepeatedKeyError:
        raise
    except UsageError:
        if text.lstrip().startswith("["):
            raise
        return None


def _holds_rows(content: object) -> bool:
    """Whether a JSON value is a table: objects in a list, or columns."""
    if isinstance(content, dict):
        return "layer" in content
    return isinstance(content, list) and bool(content) and all(isinstance(row, dict) for row in content)


def _of_table(file: Path) -> ListedExperts:
    rows = expert_rows(file, (), FORMAT)
    if "selected" in rows[0].cells:
        selected = [(row.place, row.expert) for row in rows if _is_selected(row)]
        if not selected:
            raise UsageError(f"{file}: no row is selected", hint=FORMAT)
        return ListedExperts(tuple(selected))
    if "risk_diff" not in rows[0].cells:
        raise UsageError(f"{file} has neither a column risk_diff nor a column selected", hint=FORMAT)
    defined = [row for row in rows if not is_missing_cell(row.cells["risk_diff"])]
    scores = tuple(row.number("risk_diff", FORMAT) for row in defined)
    return ListedExperts(tuple((row.place, row.expert) for row in defined), scores)


def _is_selected(row: ExpertRow) -> bool:
    cell = row.cells["selected"]
    truth = truth_of_cell(cell)
    if truth is None and not is_missing_cell(cell):
        raise UsageError(f"{row.place}: selected is {cell!r}, not true or false", hint=FORMAT)
    return truth is True


def _of_list(content: object, file: Path) -> Iterator[Expert]:
    for entry in content if isinstance(content, list) else []:
        if not (isinstance(entry, list) and len(entry) == 2 and all(type(number) is int for number in entry)):
            raise UsageError(f"{file}: {entry!r} is no [layer, expert]", hint=FORMAT)
        yield Expert(layer=entry[0], index=entry[1])


def _of_config(content: dict[str, object], file: Path) -> Iterator[Expert]:
    layers = content.get("experts")
    if not isinstance(layers, dict):
        raise UsageError(f"{file} has no `experts` with a list for every layer", hint=FORMAT)
    for layer, indices in layers.items():
        if not (is_index(str(layer)) and isinstance(indices, list) and all(type(i) is int for i in indices)):
            raise UsageError(f"{file}: experts: {layer!r}: {indices!r} is no list of experts of a layer", hint=FORMAT)
        yield from (Expert(layer=int(layer), index=index) for index in indices)


def _remark(content: dict[str, object]) -> str | None:
    asked = [name for name in ("shared_experts", "non_expert_modules") if content.get(name)]
    if not asked:
        return None
    return f"the selection file asks for {' and '.join(asked)}, too; only routed experts are selected and trained"


def _flat_index(expert: Expert, place: str, base: ModelIdentity) -> int:
    if expert.layer not in base.layers or not 0 <= expert.index < base.num_experts:
        raise UsageError(
            f"{place}: expert {expert.index} of layer {expert.layer} does not exist: {base.name} has "
            f"{base.num_experts} experts in each of the layers {', '.join(map(str, base.layers))}",
            hint=FORMAT,
        )
    return base.layers.index(expert.layer) * base.num_experts + expert.index
