"""Columns of one name from several files: runs that are told apart, or tasks of one run that are joined.

Files with the same items are different runs, called after their files; files with other items are tasks of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moe_cli.compare.column_roles import is_measure
from moe_cli.compare.imported_items import ImportedColumn
from moe_cli.errors import UsageError

REPEATED = "give the columns of repeated runs names of their own, such as full_1 and full_2"


def tell_apart(parts: Sequence[tuple[str, ImportedColumn]]) -> list[tuple[str, ImportedColumn]]:
    """Rename runs of one name that hold the same items, or only have the name of a measure, after their files."""
    by_name: dict[str, list[ImportedColumn]] = {}
    for _, column in parts:
        by_name.setdefault(column.name, []).append(column)
    taken = {
        name
        for name, of_name in by_name.items()
        if _overlap(of_name) or (len(of_name) > 1 and is_measure(name) and all(one.is_table for one in of_name))
    }
    return [
        (argument, column.called(column.file_name) if column.name in taken else column) for argument, column in parts
    ]


def join_tasks(parts: Sequence[ImportedColumn]) -> ImportedColumn:
    """One run joined from the files of its tasks; every item carries the name of its task."""
    items = tuple(item.inside(part.task) for part in parts for item in part.items)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(
                f"the item {item.id} of {parts[0].name} is in several files",
                hint="name the run of every file: moe compare base=FILE_1 selective=FILE_2",
            )
        seen.add(item.id)
    return replace(parts[0], source=" + ".join(part.source for part in parts), items=items)


def share_numbers(parts: Sequence[ImportedColumn]) -> bool:
    """Whether tables of one run number their items alike, as different tasks may.

    Raises:
        UsageError: they hold an item of the same name, so that they are no tasks.
    """
    seen: dict[str, str] = {}
    repeated = [
        (item.id, other, part)
        for part in parts
        for item in (part.items if part.is_table else ())
        if (other := seen.setdefault(item.id, part.source)) != part.source
    ]
    for id, other, part in repeated:
        if not id.isdecimal():
            raise UsageError(
                f"{part.name} stands in {other} and {part.source} with the same item {id}, so these are no two tasks",
                hint=REPEATED,
            )
    return bool(repeated)


def share_clusters(runs: Sequence[ImportedColumn]) -> list[ImportedColumn]:
    """The runs with the clusters of their items, also where only the file of another run says them."""
    clusters = {item.id: item.cluster for run in runs for item in run.items if item.cluster != item.id}
    return [
        replace(
            run,
            items=tuple(
                replace(item, cluster=clusters.get(item.id, item.id)) if item.cluster == item.id else item
                for item in run.items
            ),
        )
        for run in runs
    ]


def compare_prompts(runs: Sequence[ImportedColumn]) -> list[ImportedColumn]:
    """The runs without the digests of prompts that a table of another run does not have."""
    unknown = {item.id for run in runs if run.is_table for item in run.items if item.content is None}
    return [
        replace(
            run,
            items=tuple(replace(item, content=None) if item.id in unknown else item for item in run.items),
        )
        if run.is_table
        else run
        for run in runs
    ]


def _overlap(columns: Sequence[ImportedColumn]) -> bool:
    ids = [(column.task, item.id) for column in columns for item in column.items]
    return len(set(ids)) < len(ids)
