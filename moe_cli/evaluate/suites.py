"""Evaluation items from files that people have, or from the built-in tiny language.

Comes in: the config and the name of the base model. Goes out: `EvaluationItem` records in order of id. Always holds: an
id stands once; the same settings give the same items, so that runs stay comparable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from moe_cli.codec import encode_lines
from moe_cli.config import EvaluateConfig
from moe_cli.errors import UsageError
from moe_cli.records import EvaluationItem, Message
from moe_cli.rows import Place, Row, messages_of, name_of, rows_of, text_of
from moe_cli.tiny import MODEL_NAME
from moe_cli.tiny.language import tiny_items

ITEM_FORMATS = """accepted formats of --items, one JSON object per line (.jsonl) or one JSON list (.json):
    {"id": "1", "suite": "attacked", "kind": "harmful", "prompt": "..."}        also "messages": [{"role", "content"}]
    {"id": "2", "suite": "benign", "kind": "benign", "prompt": "...", "expected": "the one right answer"}
    {"id": "3", "suite": "text", "kind": "text", "prompt": "...", "answer": "a good answer, for drift"}
    "cluster" is optional: items of the same goal share it"""
Kind = Literal["harmful", "benign", "text"]
KINDS: dict[str, Kind] = {"harmful": "harmful", "benign": "benign", "text": "text"}


def evaluation_items(settings: EvaluateConfig, base_name: str) -> tuple[EvaluationItem, ...]:
    """Items of the configured files; the tiny language's own for the tiny model.

    Raises:
        UsageError: a real model and no files, or a row that is no item (names file and line).
    """
    items: list[EvaluationItem]
    if settings.items:
        items = [_item(row, place) for path in settings.items for place, row in rows_of(path, ITEM_FORMATS)]
    elif base_name == MODEL_NAME:
        items = list(tiny_items(settings.tiny_items, settings.tiny_seed))
    else:
        raise UsageError(f"no items to evaluate {base_name} on: --items FILE is missing", hint=ITEM_FORMATS)
    _refuse_twice(items)
    return _limited(sorted(items, key=lambda item: item.id), settings.limit)


def items_digest(items: Sequence[EvaluationItem]) -> str:
    """sha256 over the items in order of id: equal digests mean the same items."""
    ordered: list[EvaluationItem] = sorted(items, key=lambda item: item.id)
    return sha256(encode_lines(ordered)).hexdigest()


def _item(row: Row, place: Place) -> EvaluationItem:
    kind = KINDS.get(str(row.get("kind")))
    if kind is None:
        raise UsageError(f"{place}: `kind` is {row.get('kind')!r}, not one of {', '.join(KINDS)}", hint=ITEM_FORMATS)
    messages = messages_of(row.get("messages", row.get("prompt")), "prompt", place, ITEM_FORMATS)
    if kind == "text":
        messages = (*messages, Message(role="assistant", content=text_of(row, "answer", place, ITEM_FORMATS)))
    suite = name_of(row, "suite", kind)
    name = f"{suite}/{name_of(row, 'id', str(place.number))}"
    expected = text_of(row, "expected", place, ITEM_FORMATS) if row.get("expected") is not None else None
    return EvaluationItem(
        id=name, suite=suite, kind=kind, cluster=name_of(row, "cluster", name), messages=messages, expected=expected
    )


def _refuse_twice(items: Sequence[EvaluationItem]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UsageError(f"the item {item.id} stands twice", hint="give every item of a suite an id of its own")
        seen.add(item.id)


def _limited(items: Sequence[EvaluationItem], limit: int | None) -> tuple[EvaluationItem, ...]:
    """The first `limit` items of every suite."""
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for item in items:
        taken[item.suite] += 1
        if limit is None or taken[item.suite] <= limit:
            kept.append(item)
    return tuple(kept)
