"""Data sets that users bring: any file, folder or hub data set of a known format is read into entries.

The format is recognised by the content of a file, never by its name. Every row is used, skipped with a reason, or
reported as bad with its location.
"""

from __future__ import annotations

from moe_cli.data.column_names import AS_NAMED, ColumnMap, column_map
from moe_cli.data.entries import Entry, cluster_of, cluster_of_prompt, normalise_text
from moe_cli.data.reading import SourceReading, of_kind, read_rows, read_source, read_table
from moe_cli.data.rows import Location, RowFault, refuse_bad_rows
from moe_cli.data.source_names import digest_of_source, source_of
from moe_cli.data.tables import Table
from moe_cli.data.templates import Template, read_templates
from moe_cli.records.inputs import Kind

__all__ = [
    "AS_NAMED",
    "ColumnMap",
    "Entry",
    "Kind",
    "Location",
    "RowFault",
    "SourceReading",
    "Table",
    "Template",
    "cluster_of",
    "cluster_of_prompt",
    "column_map",
    "digest_of_source",
    "normalise_text",
    "of_kind",
    "read_rows",
    "read_source",
    "read_table",
    "read_templates",
    "refuse_bad_rows",
    "source_of",
]
