"""A source as a table: clean rows with their locations, and the rows that could not be read.

How a file is read depends on its content, never on its name: the magic bytes of a compression, of parquet or Arrow, the
first characters of JSON, otherwise text. Every table that a user names is read here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from moe_cli.data.column_names import (
    AS_NAMED,
    LABEL_NAMES,
    SYSTEM_COLUMNS,
    ColumnMap,
    columns_of_prompts,
    normalise_name,
    singular_of,
)
from moe_cli.data.content import decompress, text_of_bytes
from moe_cli.data.json_objects import SHOWN_KEY, system_of_header
from moe_cli.data.json_rows import is_json_around_placeholders, json_table, looks_like_json
from moe_cli.data.rows import (
    BadRowError,
    Location,
    RawRow,
    RawTable,
    ReadRow,
    RowFault,
    clean_row,
    refuse_part,
)
from moe_cli.data.source_names import NamedSource, source_of
from moe_cli.data.table_rows import Shape, columnar_rows, columnar_table, is_columnar, text_table
from moe_cli.errors import UsageError

Content = str | list[RawRow]
OF_PRODIGY, VERDICTS = "_task_hash", {"accept", "reject", "ignore"}  # a key of its rows, and what `answer` says there
MOST_WORDS = 4  # of the name of a column that is shown: a longer one could be a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one source."""

    source: NamedSource
    sha256: str  # of the file or folder as it lies there; of a hub data set, over its rows
    container: str  # "CSV", "JSON Lines"
    rows: tuple[tuple[Location, ReadRow], ...]
    faults: tuple[RowFault, ...]  # rows that cannot be read
    are_texts: bool = False  # one text a row, under `text`, which no column names
    header: Mapping[str, object] = field(default_factory=dict)  # what stands beside the rows in a JSON object
    names: Mapping[str, str] = field(default_factory=dict)  # known name -> the column as it is written
    label: str | None = None  # the column that `--map label=...` names
    columns_read: set[str] = field(default_factory=set)  # known names that a row was asked for

    def keys(self) -> set[str]:
        """The known names of all columns."""
        return {key for _, row in self.rows for key in row}

    def shown_columns(self) -> tuple[str, ...]:
        """The columns in alphabetical order; a key that could be a prompt stays as written, and no error shows it."""
        return tuple(sorted(key if self._is_name(key) else self.names.get(key, key) for key in self.keys()))

    def unread(self) -> tuple[str, ...]:
        """The columns that are not empty and were never read, in alphabetical order.

        Only keys that are names: a longer key could be the text of a prompt.
        """
        filled = {key for _, row in self.rows for key in row.filled()}
        return tuple(sorted(filter(self._is_name, filled - self.columns_read)))

    def _is_name(self, key: str) -> bool:
        """Whether a key may be shown: it is one word, or a few that head a table or are in most objects."""
        written = self.names.get(key, key).strip()
        if len(written.split()) > 1 and (len(written.split()) > MOST_WORDS or written.endswith("?")):
            return False
        is_word = "JSON" not in self.container or " " not in written
        is_shared = is_word or 2 * sum(key in row for _, row in self.rows) > max(len(self.rows), 2)
        return is_shared and SHOWN_KEY.fullmatch(key) is not None


def table_of_bytes(data: bytes, source: NamedSource, columns: ColumnMap = AS_NAMED, shape: Shape = "rows") -> Table:
    """All rows of a file; `columns` maps unknown column names to known ones, `shape` is as in `text_table`.

    Raises:
        UsageError: it cannot be read as a whole.
    """
    try:
        content, mapped = content_of(data, source.name), columns_of_prompts(columns)
        raw = rows_of_content(content, source.name, source.accepted, part=source.split, mapped=mapped, shape=shape)
        return table_of(raw, source, sha256(data).hexdigest(), columns)
    except RecursionError:
        raise too_deep(source) from None


def too_deep(source: NamedSource) -> UsageError:
    """The error for rows that are nested more deeply than they can be looked through."""
    return UsageError(f"{source.name} holds values that are nested too deeply", hint=source.accepted)


def file_source(path: Path, hint: str) -> NamedSource:
    """A file as a source.

    Raises:
        UsageError: no such file.
    """
    source = source_of(str(path), accepted=hint)
    if source.kind != "file":
        raise UsageError(f"{path} is no file", hint=hint)
    return source


def content_of_file(path: Path, hint: str) -> Content:
    """The content of a file, for a reader that takes more than rows; errors as of `file_source` and `content_of`."""
    return content_of(Path(file_source(path, hint).place).read_bytes(), str(path))


def content_of(data: bytes, name: str) -> Content:
    """The bytes of a file, decompressed: decoded where they are text, as rows where they are parquet or Arrow.

    Raises:
        UsageError: they are neither, or damaged.
    """
    data = decompress(data, name)
    return columnar_rows(data, name) if is_columnar(data) else text_of_bytes(data, name)


def rows_of_content(
    content: Content,
    name: str,
    hint: str,
    *,
    part: str | None = None,
    mapped: Collection[str] = (),
    shape: Shape = "rows",
) -> RawTable:
    """The rows of a content; `part` names one list of a JSON object, `mapped` are known columns.

    Raises:
        UsageError: it holds no rows that can be determined.
    """
    if not isinstance(content, str):
        return columnar_table(name, content, "parquet or Arrow", part)
    if looks_like_json(content) and not (shape == "plain" and is_json_around_placeholders(content)):
        return json_table(content, name, hint, part, mapped)
    refuse_part(name, part)
    return text_table(content, name, hint, mapped, shape)


def table_of(raw: RawTable, source: NamedSource, digest: str, columns: ColumnMap) -> Table:
    """The rows of a container under known names."""
    rows: list[tuple[Location, ReadRow]] = []
    faults: list[RowFault] = []
    names: dict[str, str] = {}
    columns_read: set[str] = set()
    system = system_of_header(raw.header)
    for element in raw.rows:
        if isinstance(element, RowFault):
            faults.append(element)
            continue
        place, row = element
        try:
            values = clean_row(row, columns)
        except BadRowError as error:
            faults.append(RowFault(place, error.reason))
            continue
        if system is not None and not any(column in values for column in SYSTEM_COLUMNS):
            values["system"] = system
        names.update({normalise_name(key): key for key in row if key.strip()})
        names.update({singular_of(normalise_name(key)): key for key in row if key.strip()})
        rows.append((place, ReadRow(values, columns_read, columns.keys())))
    _refuse_undone(rows, source, columns)
    label = next((columns[name] for name in LABEL_NAMES if name in columns), None)
    return Table(
        source=source,
        sha256=digest,
        container=raw.container,
        rows=tuple(rows),
        faults=tuple(faults),
        are_texts=raw.are_texts,
        header=raw.header,
        names=names,
        label=label,
        columns_read=columns_read,
    )


def _refuse_undone(rows: Sequence[tuple[Location, ReadRow]], source: NamedSource, columns: ColumnMap) -> None:
    """Refuse what annotators rejected or skipped in Prodigy, which keeps every row and says it under `answer`."""
    said = [str(row.peek("answer")) for _, row in rows] if any(OF_PRODIGY in row for _, row in rows) else []
    if "answer" not in columns.values() and set(said) <= VERDICTS and (num := sum(one != "accept" for one in said)):
        raise UsageError(
            f"{source.name}: {num} of {len(rows)} rows were rejected or skipped by their column `answer` (Prodigy)",
            hint="leave these rows out",
        )
