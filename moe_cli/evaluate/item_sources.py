"""Evaluation items from the rows of one source: in moe's own format, or as entries of a known data format."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moe_cli.data import (
    ColumnMap,
    Entry,
    Location,
    RowFault,
    SourceReading,
    Table,
    cluster_of_prompt,
    of_kind,
    read_rows,
    read_table,
    source_of,
)
from moe_cli.data.column_names import MAPPED_NAMES
from moe_cli.data.entries import refuse_unreadable, with_system_turn
from moe_cli.data.labels import answer_beside
from moe_cli.data.prompts import prompt_turns
from moe_cli.data.rows import BadRowError, ReadRow, name_of, text_of, written_of
from moe_cli.data.source_names import KINDS, kind_and_source
from moe_cli.data.turns import Turns, are_turns, messages_of, prompt_of_turns, turns
from moe_cli.errors import UsageError
from moe_cli.records import EvaluationItem, ItemSource, Message
from moe_cli.records.inputs import ItemKind

ITEM_FORMATS = (
    '--items takes rows such as {"suite": "attacked", "kind": "harmful", "prompt": "..."}, and every format of '
    "docs/guide.md; --items harmful=FILE and --items benign=FILE say the kind where a file does not"
)


@dataclass(frozen=True, slots=True)
class SourceItems:
    """The content of one source: items in moe's own format, or entries of a data format."""

    count: ItemSource
    items: tuple[EvaluationItem, ...]
    entries: tuple[Entry, ...]
    faults: tuple[RowFault, ...]
    columns: frozenset[str]  # as they are written, in the form in which names are compared


def source_items(source: str, columns: ColumnMap) -> SourceItems:
    """Read one source; with `harmful=FILE` all its rows are of that kind."""
    forced, name = kind_and_source(source)
    table = read_table(source_of(name, accepted=ITEM_FORMATS), columns)
    if _says_kinds(table.keys()):
        return _own_items(source, table, forced)
    reading = read_rows(table, keep_failed=True)
    if forced == "text":
        raise UsageError(
            f"{name} holds no texts for drift: rows of theirs have `kind`, `prompt` and `answer`", hint=ITEM_FORMATS
        )
    if forced is not None:
        reading = of_kind(reading, forced, f"--items {forced}=")
    else:
        _refuse_labels_of_answers(table, reading)
    entries = tuple(replace(entry, kind=entry.kind or forced) for entry in reading.entries)
    unsaid = [entry for entry in entries if entry.kind is None]
    if unsaid:
        which = "its rows are" if len(unsaid) == len(entries) else f"{len(unsaid)} of its {len(entries)} rows are"
        raise UsageError(
            f"{name} ({reading.format_name}): nothing says whether {which} harmful or benign, the first at "
            f"{unsaid[0].place}",
            hint=f"--items harmful={name} or --items benign={name} says it; or add a column `kind`",
        )
    count = ItemSource(
        name=source,
        sha256=reading.sha256,
        format=reading.format_name,
        rows=reading.num_rows,
        skipped=dict(reading.skipped),
        bad_rows=len(reading.faults),
        unread=reading.unread,
    )
    return SourceItems(count, (), entries, reading.faults, reading.columns)


def _refuse_labels_of_answers(table: Table, reading: SourceReading) -> None:
    for column in sorted({entry.told_by for entry in reading.entries if entry.told_by is not None}):
        if (answer := answer_beside(table, column)) is not None:
            name = table.source.name
            raise UsageError(
                f"{name}: `{column}` stands beside `{answer}`, and nothing says whether it is about the prompt",
                hint=f"--map {_mapped_as(column)}={column} says it is; else --items harmful={name} or benign={name}",
            )


def _mapped_as(column: str) -> str:
    return column if column in MAPPED_NAMES else "label"


def _says_kinds(keys: set[str]) -> bool:
    """Whether rows with these columns are items in moe's own format."""
    return "kind" in keys and not keys.isdisjoint({"prompt", "messages"})


def _own_items(name: str, table: Table, forced: ItemKind | None) -> SourceItems:
    items: list[EvaluationItem] = []
    faults = list(table.faults)
    for location, row in table.rows:
        try:
            items.append(_item(row, location))
        except BadRowError as error:
            faults.append(RowFault(location, error.reason))
    if forced is not None and (other := sum(item.kind != forced for item in items)):
        raise UsageError(
            f"{table.source.name}: {other:,} of {len(items):,} rows are not {forced} by their column `kind`",
            hint=f"leave {forced}= away: the file says the kind of every row",
        )
    count = ItemSource(
        name=name,
        sha256=table.sha256,
        format="items",
        rows=len(table.rows) + len(table.faults),
        skipped={},
        bad_rows=len(faults),
        unread=table.unread(),
    )
    return SourceItems(count, tuple(items), (), tuple(faults), frozenset(table.names))


def _item(row: ReadRow, location: Location) -> EvaluationItem:
    kind = KINDS.get((name_of(row, "kind") or "").casefold())
    if kind is None:
        raise BadRowError(f"`kind` is not one of {', '.join(KINDS)}")
    refuse_unreadable(row)
    messages = _text_turns(row) if kind == "text" else _asked_turns(row)
    suite = name_of(row, "suite") or kind
    own = name_of(row, "id") or str(location.number)
    expected = written_of(row, "expected") if row.get("expected") is not None else None
    goal = prompt_of_turns(text_of(row, "goal")) if row.get("goal") is not None else None
    return EvaluationItem(
        id=id_in_suite(suite, own),
        suite=suite,
        kind=kind,
        cluster=name_of(row, "cluster") or cluster_of_prompt(goal or (messages[:-1] if kind == "text" else messages)),
        messages=with_system_turn(messages, row),
        expected=expected,
    )


def id_in_suite(suite: str, own: str) -> str:
    """The id of an item, which begins with its suite: `attacked/goal-90/story`."""
    return own if own.startswith(f"{suite}/") else f"{suite}/{own}"


def _asked_turns(row: ReadRow) -> Turns:
    """The prompt of a row that is answered; it ends with a user turn."""
    value = row.get("messages")
    return prompt_turns(row) if value is None else turns(value, "messages")


def _text_turns(row: ReadRow) -> Turns:
    """The turns of a text with its answer, taken from `answer` or from the last turn."""
    value = row.get("messages")
    if (
        row.get("answer") is None
        and are_turns(value)
        and (messages := messages_of(value, "messages"))[-1].role == "assistant"
    ):
        *prompt, answer = messages
        return (*turns([{"role": turn.role, "content": turn.content} for turn in prompt], "messages"), answer)
    asked_turns = turns(value, "messages") if value is not None else prompt_turns(row)
    return (*asked_turns, Message(role="assistant", content=text_of(row, "answer")))
