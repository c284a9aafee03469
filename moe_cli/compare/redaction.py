"""A comparison that can be shown to others: without texts of prompts and answers, ids of items, or absolute paths.

Ids and paths are replaced by stand-ins; the numbers are untouched. Equal ids and equal paths have equal stand-ins,
different ones different stand-ins. A path in a field of its own is recognised whole, whatever characters it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from moe_cli.records.comparison import Comparison, Flip
from moe_cli.records.report import ReportData

Value = TypeVar("Value")

CUT = "\N{HORIZONTAL ELLIPSIS}"
# A path from the root, also behind `file:` or `=`; the path of a web address is none.
ABSOLUTE = re.compile(rf"(?:file:/*(?=/)|(?<![\w./{CUT}-]))/(?!/)[^\s,;:'\"<>|()\[\]]+")
# The path that ends a field: all of it, or behind `command:` or the address of a judge; it may hold spaces.
FIELD = re.compile(r"(?:^|[\s:=])(/(?![/\s]).*[^/])/*$", re.DOTALL)


def redact(comparison: Comparison, data: ReportData) -> tuple[Comparison, ReportData]:
    """The comparison and its report data, redacted."""
    ids = {flip.item for pair in comparison.pairs for flip in pair.flips} | {text.flip.item for text in data.texts}
    numbers = {item: f"item {number}" for number, item in enumerate(sorted(ids), start=1)}
    values = [value for check in comparison.fairness for value in check.values]
    shortened = _PathNames(_texts((comparison.columns, comparison.labels, data.origins, tuple(values))))
    pairs = tuple(
        replace(pair, flips=tuple(_numbered(flip, numbers) for flip in pair.flips)) for pair in comparison.pairs
    )
    texts = tuple(
        replace(text, flip=_numbered(text.flip, numbers), prompt=None, answer_a=None, answer_b=None)
        for text in data.texts
    )
    return (
        _changed(replace(comparison, pairs=pairs), shortened),
        _changed(replace(data, texts=texts, redacted=True), shortened),
    )


def _numbered(flip: Flip, numbers: dict[str, str]) -> Flip:
    return replace(flip, item=numbers[flip.item])


class _PathNames:
    """Absolute paths replaced by their last part; a second path with the same last part gets a number."""

    def __init__(self, texts: Iterable[str]) -> None:
        known = {match.group(1) for match in map(FIELD.search, texts) if match}
        longest_first = sorted(known, key=lambda path: (-len(path), path))
        alternatives = "|".join(map(re.escape, longest_first))
        self._known = re.compile(rf"(?<![\w.{CUT}-])(?:{alternatives})") if known else None
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        for pattern in filter(None, (self._known, ABSOLUTE)):
            text = pattern.sub(lambda match: self._name(match.group()), text)
        return text

    def _name(self, path: str) -> str:
        if path not in self._names:
            name = f"{CUT}/{path.rstrip('/').rpartition('/')[2]}"
            taken = sum(other == name or other.startswith(f"{name} (") for other in self._names.values())
            self._names[path] = f"{name} ({taken + 1})" if taken else name
        return self._names[path]


def _texts(value: object) -> Iterator[str]:
    """Every text in a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        yield from _texts((*value, *value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _texts(tuple(getattr(value, each.name) for each in fields(value)))


def _changed(value: Value, change: Callable[[str], str]) -> Value:
    """The value with every text in it changed."""
    return cast(Value, _with_texts(value, change))


def _with_texts(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_with_texts(each, change) for each in value)
    if isinstance(value, dict):
        return {change(key): _with_texts(each, change) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _with_texts(getattr(value, each.name), change) for each in fields(value)})
    return value
