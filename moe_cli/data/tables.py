"""A source as a table: clean rows with their locations, and the rows that could not be read.

How a file is read depends on its content, never on its name: the magic bytes of a compression, of parquet or Arrow, the
first characters of JSON, otherwise text. `read_table` is the one reader of all user data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from moe_cli.activity import begin_activity
from moe_cli.data import dataset_rows
from moe_cli.data.column_names import AS_NAMED, LABEL_NAMES, SYSTEM_COLUMNS, ColumnMap, normalise_name, singular_of
from moe_cli.data.content import decompress, text_of_bytes
from moe_cli.data.faults import BadRowError, Location, RowFault
from moe_cli.data.json_objects import SHOWN_KEY, system_of_header
from moe_cli.data.json_rows import is_json_around_placeholders, json_table, looks_like_json
from moe_cli.data.rows import Element, RawRow, RawTable, ReadRow, clean_row, refuse_part
from moe_cli.data.source_names import NamedSource, digest_of_source, source_of
from moe_cli.data.table_rows import Shape, columnar_rows, is_columnar, text_table
from moe_cli.errors import UsageError

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


@begin_activity("reading data")
def read_table(source: NamedSource, columns: ColumnMap = AS_NAMED, shape: Shape = "rows") -> Table:
    """All rows of a source; `columns` maps unknown column names to known ones (`--map`).

    `shape` says how a text is read: rows of prompts, a table whatever its header names, or plain text.

    Raises:
        UsageError: it cannot be read as a whole.
        EnvironmentFaultError: a hub cannot be reached.
    """
    try:
        return _read(source, columns, shape)
    except RecursionError:
        raise UsageError(f"{source.name} holds values that are nested too deeply", hint=source.accepted) from None


def _read(source: NamedSource, columns: ColumnMap, shape: Shape) -> Table:
    if source.kind in ("folder", "hub"):
        raw = dataset_rows.read_folder(source) if source.kind == "folder" else dataset_rows.read_hub(source)
        digest = (
            digest_of_source(Path(source.place)) if source.kind == "folder" else sha256(repr(raw).encode()).hexdigest()
        )
        return _table(source, digest, _columns(source.name, raw, "a data set"), columns)
    if source.kind == "repository":
        return _repository(source, columns)
    content = dataset_rows.remote_bytes(source) if source.kind == "remote" else Path(source.place).read_bytes()
    raw_table = _raw_table(content, source.name, source, columns, shape=shape)
    return _table(source, sha256(content).hexdigest(), raw_table, columns)


def text_of_file(path: Path, hint: str) -> str | None:
    """The text of a file, decompressed and decoded; None if it is a columnar table (parquet or Arrow).

    Raises:
        UsageError: no such file, or no text.
    """
    source = source_of(str(path), accepted=hint)
    if source.kind != "file":
        raise UsageError(f"{path} is no file", hint=hint)
    content = decompress(path.read_bytes(), str(path))
    return None if is_columnar(content) else text_of_bytes(content, str(path))


def _repository(source: NamedSource, columns: ColumnMap) -> Table:
    """The rows of all files of one split; the location of a row names its file."""
    files = dataset_rows.repository_files(source)
    parts = [_raw_table(Path(file.path).read_bytes(), file.name, source, columns, whole=True) for file in files]
    rows = [row for part in parts for row in part.rows]
    first = parts[0]
    whole = RawTable(rows=rows, container=first.container, are_texts=first.are_texts, header=first.header)
    lines = [f"{file.name} {digest_of_source(Path(file.path))}\n" for file in files]
    return _table(source, sha256("".join(lines).encode()).hexdigest(), whole, columns)


def _raw_table(
    content: bytes, name: str, source: NamedSource, columns: ColumnMap, *, whole: bool = False, shape: Shape = "rows"
) -> RawTable:
    """The rows of one file; `whole` if the split of the source has already chosen the file."""
    content = decompress(content, name)
    part = None if whole else source.split
    if is_columnar(content):
        return _columns(name, columnar_rows(content, name), "parquet or Arrow", part)
    text = text_of_bytes(content, name)
    if looks_like_json(text) and not (shape == "plain" and is_json_around_placeholders(text)):
        return json_table(text, name, source.accepted, part, set(columns.values()))
    refuse_part(name, part)
    return text_table(text, name, source.accepted, set(columns.values()), shape)


def _columns(name: str, raw: Iterable[RawRow], container: str, part: str | None = None) -> RawTable:
    refuse_part(name, part)
    rows: list[Element] = [(Location(name, number, "row"), row) for number, row in enumerate(raw, start=1)]
    return RawTable(rows=rows, container=container)


def _table(source: NamedSource, digest: str, raw: RawTable, columns: ColumnMap) -> Table:
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
