"""Data that people bring: any file, folder or hub data set of a known format, as entries.

Comes in: what a person named. Goes out: a `Reading`: its entries, and what became of every row. Always holds: a format
is recognised by the keys of the rows, never by a name; every row is used, skipped with a reason, or bad with its place.
"""

from __future__ import annotations

from moe_cli.data.entries import Entry, cluster_of
from moe_cli.data.faults import Fault, listed, refuse_bad_rows
from moe_cli.data.formats import accepted_formats
from moe_cli.data.places import Place
from moe_cli.data.reading import Reading, of_kind, read, read_each, read_rows
from moe_cli.data.sources import digest_of, source_of
from moe_cli.data.tables import Table, read_table
from moe_cli.data.templates import Template, read_templates

__all__ = [
    "Entry",
    "Fault",
    "Place",
    "Reading",
    "Table",
    "Template",
    "accepted_formats",
    "cluster_of",
    "digest_of",
    "listed",
    "of_kind",
    "read",
    "read_each",
    "read_rows",
    "read_table",
    "read_templates",
    "refuse_bad_rows",
    "source_of",
]
