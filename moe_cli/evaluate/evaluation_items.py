"""Evaluation items from the user's data, or from the built-in tiny language.

The same settings give the same items, so that runs stay comparable, and items that an evaluation wrote are read back as
the same items. Rows whose attack failed on another model are used like all others: a set selected by success there says
nothing about this model.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import cast

from moe_cli.codec import lines_of_records
from moe_cli.config import EvaluateConfig
from moe_cli.data import (
    Entry,
    Kind,
    Location,
    cluster_of,
    cluster_of_prompt,
    column_map,
    normalise_text,
    refuse_bad_rows,
)
from moe_cli.data.column_names import refuse_absent
from moe_cli.data.reading import SourceReader
from moe_cli.data.rows import EQUAL, DistinctNames
from moe_cli.data.turns import Turns
from moe_cli.errors import MoeError, UsageError
from moe_cli.evaluate.item_sources import ITEM_FORMATS, SourceItems, source_items
from moe_cli.records import PLAIN_SUITE, EvaluationItem, ItemsPreview, Notice, SuiteCount
from moe_cli.records.inputs import ItemKind
from moe_cli.tiny import MODEL_NAME
from moe_cli.tiny.language import tiny_items

REPEAT = re.compile(r"#\d+$")  # behind the id of an item that is answered more than once


def load_items(
    settings: EvaluateConfig, base_name: str, *, columns_elsewhere: Sequence[Collection[str]] = ()
) -> tuple[EvaluationItem, ...]:
    """Items of the configured sources, or the tiny language's own for the tiny model.

    `columns_elsewhere` are the columns of other sources; a mapped column may be one of them.

    Raises:
        UsageError: a real model and no sources, rows that are no items (names source and row), or nothing to answer.
    """
    items, _, refusal = _gathered(settings, base_name, columns_elsewhere)
    if refusal is not None:
        raise refusal
    return items


def preview_of_items(settings: EvaluateConfig, base_name: str) -> tuple[ItemsPreview, MoeError | None]:
    """Preview of the items for a dry run, and the error with which an evaluation would end."""
    items, preview, refusal = _gathered(settings, base_name)
    suites = Counter((item.suite, item.kind) for item in items)
    clusters: dict[tuple[str, ItemKind], set[str]] = defaultdict(set)
    for item in items:
        clusters[item.suite, item.kind].add(item.cluster)
    counts = tuple(
        SuiteCount(
            suite=suite,
            kind=kind,
            num_items=number,
            num_clusters=len(clusters[suite, kind]),
        )
        for (suite, kind), number in sorted(suites.items())
    )
    return replace(preview, suites=counts, refused=None if refusal is None else refusal.message), refusal


def _gathered(
    settings: EvaluateConfig, base_name: str, columns_elsewhere: Sequence[Collection[str]] = ()
) -> tuple[tuple[EvaluationItem, ...], ItemsPreview, MoeError | None]:
    """The items, the preview with the counts of every source, and the error that stops an evaluation."""
    reader, columns = SourceReader(), column_map(settings.map)
    attempts = (reader.attempt("items", name, partial(source_items, name, columns)) for name in settings.items)
    sources = [source for source in attempts if source is not None]
    if sources and not reader.errors:
        reader.check(lambda: refuse_absent(columns, [*columns_elsewhere, *(source.columns for source in sources)]))
    items, repeated = _items_of(sources)
    if not settings.items and base_name == MODEL_NAME:
        items = list(tiny_items(settings.tiny_items, settings.tiny_seed))
    chosen = tuple(_repeated(_limited(sorted(items, key=lambda item: item.id), settings.limit), settings.epochs))
    counts = tuple(
        replace(source.count, skipped={**source.count.skipped, EQUAL: number})
        if (number := repeated[source.count.name])
        else source.count
        for source in sources
    )
    preview = ItemsPreview(sources=counts, unreadable=tuple(reader.unreadable), suites=(), refused=None)
    return chosen, preview, _refusal(settings, base_name, chosen, sources, reader.refusal())


def _refusal(
    settings: EvaluateConfig,
    base_name: str,
    items: Sequence[EvaluationItem],
    sources: Sequence[SourceItems],
    unreadable: MoeError | None,
) -> MoeError | None:
    try:
        if not settings.items and base_name != MODEL_NAME:
            raise UsageError(f"no items to evaluate {base_name} on: --items FILE is missing", hint=ITEM_FORMATS)
        if unreadable is not None:
            raise unreadable
        refuse_bad_rows([fault for source in sources for fault in source.faults], 0, hint=ITEM_FORMATS)
        _refuse_texts_alone(items)
        refuse_mixed_suites(items)
    except MoeError as error:
        return error
    return None


def _repeated(items: Sequence[EvaluationItem], epochs: int) -> Iterator[EvaluationItem]:
    """Every item `epochs` times, with ids `id#2`, ... from the second on; all share one cluster."""
    for item in items:
        for number in range(1, 1 + (epochs if item.kind != "text" else 1)):
            yield replace(item, id=repeat_id(item.id, number))


def notices_of_repeats(items: Sequence[EvaluationItem]) -> Iterator[Notice]:
    """A notice of how many items repeat the prompt of another one in their cluster; epochs of one item do not count."""
    ids: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = defaultdict(set)
    for item in items:
        if item.kind != "text":
            content = tuple((turn.role, normalise_text(turn.content)) for turn in item.messages)
            ids[item.cluster, content].add(prompt_id(item.id))
    if repeats := sum(len(alike) - 1 for alike in ids.values()):
        prompts = sum(map(len, ids.values()))
        yield Notice(
            text=f"{repeats:,} of {prompts:,} items ask the same as another one (up to case, white space and final"
            " punctuation): these count as one goal",
            warning=True,
        )


def repeat_id(id: str, number: int) -> str:
    """Id of the answer with this number, from 1, to one item: `attacked/goal-90/story`, then `...#2`."""
    return id if number == 1 else f"{id}#{number}"


def prompt_id(id: str) -> str:
    """The common start of the ids of all answers to one item."""
    return REPEAT.sub("", id)


def items_digest(items: Sequence[EvaluationItem]) -> str:
    """sha256 over the items in order of id: equal digests mean the same items."""
    ordered: list[EvaluationItem] = sorted(items, key=lambda item: item.id)
    digest = sha256()
    for line in lines_of_records(ordered):
        digest.update(line)
    return digest.hexdigest()


def _items_of(sources: Sequence[SourceItems]) -> tuple[list[EvaluationItem], Counter[str]]:
    """All items with unique ids, and how many rows of each source repeat an earlier one."""
    items: dict[str, EvaluationItem] = {}
    names = DistinctNames()
    repeated: Counter[str] = Counter()
    for source in sources:
        for item in source.items:
            if items.get(item.id) == item:
                repeated[source.count.name] += 1
            else:
                _add(items, item, names)
    contents: set[tuple[str, str, Turns, str | None]] = set()
    number: dict[str, int] = defaultdict(int)
    for source in sources:
        used: set[Location] = set()
        for entry in source.entries:
            for suite, messages in _forms(entry):
                cluster = _cluster(entry)
                content = (suite, cluster, messages, entry.expected)
                if content not in contents:
                    contents.add(content)
                    used.add(entry.place)
                    _add(items, _form_item(entry, suite, messages, cluster, number), names)
        repeated[source.count.name] += len({entry.place for entry in source.entries} - used)
    return list(items.values()), repeated


def _add(items: dict[str, EvaluationItem], item: EvaluationItem, names: DistinctNames) -> None:
    """Add an item, under another id where its own is taken."""
    name = names.of(item.id)
    items[name] = replace(item, id=name)


def _forms(entry: Entry) -> Iterator[tuple[str, Turns]]:
    if entry.kind == "benign":
        messages = entry.plain or entry.attacked
        if messages:
            yield entry.suite or ("benign_attacked" if entry.attack else "benign"), messages
        return
    if entry.plain:
        yield entry.suite or PLAIN_SUITE, entry.plain
    if entry.attacked:
        yield "attacked", entry.attacked


def _cluster(entry: Entry) -> str:
    """Cluster of an entry: forms of one goal share one.

    A harmless prompt has its own, which depends on no file name and no id.
    """
    if entry.kind == "harmful" and entry.goal:
        return cluster_of(entry.goal)
    return entry.cluster or cluster_of_prompt(entry.plain or entry.attacked or ())


def _form_item(entry: Entry, suite: str, messages: Turns, cluster: str, number: dict[str, int]) -> EvaluationItem:
    name = f"{suite}/{entry.id or cluster}" + ("" if entry.part is None else f"/{entry.part}")
    number[name] += 1
    if entry.id is None and number[name] > 1:  # other forms of the same goal
        name = f"{name}/{number[name]}"
    return EvaluationItem(
        id=name,
        suite=suite,
        kind=cast(Kind, entry.kind),
        cluster=cluster,
        messages=messages,
        expected=entry.expected,
    )


def _refuse_texts_alone(items: Sequence[EvaluationItem]) -> None:
    if all(item.kind == "text" for item in items):
        raise UsageError(
            f"there is no item to answer, only texts for drift ({len(items)})",
            hint=f"add harmful or benign items with a further --items; {ITEM_FORMATS}",
        )


def refuse_mixed_suites(items: Sequence[EvaluationItem]) -> None:
    """Refuse a suite with harmful and benign items, which has no single rate; texts for drift do not count.

    Raises:
        UsageError: a suite holds harmful and benign items.
    """
    kinds: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.kind != "text":
            kinds[item.suite].add(item.kind)
    for suite, of_suite in kinds.items():
        if len(of_suite) > 1:
            raise UsageError(
                f"the suite {suite!r} holds harmful and benign prompts",
                hint="a suite is either harmful or benign; split it in two (column `suite`)",
            )


def _limited(items: Sequence[EvaluationItem], limit: int | None) -> tuple[EvaluationItem, ...]:
    """The first `limit` items of every suite."""
    counts: dict[str, int] = defaultdict(int)
    kept = []
    for item in items:
        counts[item.suite] += 1
        if limit is None or counts[item.suite] <= limit:
            kept.append(item)
    return tuple(kept)
