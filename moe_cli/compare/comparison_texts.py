"""What a comparison shows of texts: the worst flips for a person who asks to see them, or with --redact none at all.

They are handed to the view and written only into the report. Outcomes that were made elsewhere have no texts.

A redacted comparison can be shown to others: it is without texts of prompts and answers, ids of items, or absolute
paths. Ids and paths are replaced by stand-ins; the numbers are untouched. Equal ids and equal paths have equal stand-
ins, different ones different stand-ins. A path in a field of its own is recognised whole, whatever characters it has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

from moe_cli.compare.compared_runs import ComparedRun
from moe_cli.records import Comparison, EvaluationRecord, Flip, FlipText, PairComparison
from moe_cli.records.report import ReportData

Records = Mapping[str, EvaluationRecord]
Value = TypeVar("Value")

CUT = "\N{HORIZONTAL ELLIPSIS}"
# A path from the root, also behind `file:` or `=`; the path of a web address is none.
ABSOLUTE = re.compile(rf"(?:file:/*(?=/)|(?<![\w./{CUT}-]))/(?!/)[^\s,;:'\"<>|()\[\]]+")
# The path that ends a field: all of it, or behind `command:` or the address of a judge; it may hold spaces.
FIELD = re.compile(r"(?:^|[\s:=])(/(?![/\s]).*[^/])/*$", re.DOTALL)


def select_flip_texts(comparison: Comparison, sources: Sequence[ComparedRun], num: int) -> tuple[FlipText, ...]:
    """The `num` worst flips of each pair, with the prompt and the answers of the first run of each arm."""
    return _texts(comparison, sources, lambda pair: pair.flips[:num])


def worst_flips(comparison: Comparison, sources: Sequence[ComparedRun], num: int) -> tuple[FlipText, ...]:
    """As `select_flip_texts`, with the `num` worst flips of every measure and suite of each pair."""
    return _texts(comparison, sources, lambda pair: tuple(_first_of_each(pair, num)))


def _first_of_each(pair: PairComparison, num: int) -> Iterator[Flip]:
    seen: Counter[tuple[str, str]] = Counter()
    for flip in pair.flips:
        seen[flip.metric, flip.suite] += 1
        if seen[flip.metric, flip.suite] <= num:
            yield flip


def _texts(
    comparison: Comparison, sources: Sequence[ComparedRun], chosen: Callable[[PairComparison], Sequence[Flip]]
) -> tuple[FlipText, ...]:
    first = {arm.name: arm.runs[0] for arm in comparison.arms}
    records: dict[str, Records] = {
        source.column.name: {record.item.id: record for record in source.records or ()} for source in sources
    }
    return tuple(
        FlipText(
            pair=pair_name(pair),
            flip=flip,
            prompt=_prompt(records[first[pair.a]].get(flip.item)),
            answer_a=_answer(records[first[pair.a]].get(flip.item)),
            answer_b=_answer(records[first[pair.b]].get(flip.item)),
        )
        for pair in comparison.pairs
        for flip in chosen(pair)
    )


def pair_name(pair: PairComparison) -> str:
    """The pair as text, such as `selective against baseline`."""
    return f"{pair.b} against {pair.a}"


def _prompt(record: EvaluationRecord | None) -> str | None:
    turns = [message.content for message in record.item.messages if message.role == "user"] if record else []
    return turns[-1] if turns else None


def _answer(record: EvaluationRecord | None) -> str | None:
    return record.answer if record else None


def redact(comparison: Comparison, data: ReportData) -> tuple[Comparison, ReportData]:
    """The comparison and its report data, redacted."""
    ids = {flip.item for pair in comparison.pairs for flip in pair.flips} | {text.flip.item for text in data.texts}
    numbers = {item: f"item {number}" for number, item in enumerate(sorted(ids), start=1)}
    values = [value for check in comparison.fairness for value in check.values]
    shortened = _PathNames(_all_texts((comparison.columns, comparison.labels, data.origins, tuple(values))))
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


def _all_texts(value: object) -> Iterator[str]:
    """Every text in a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _all_texts(each)
    elif isinstance(value, dict):
        yield from _all_texts((*value, *value.values()))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _all_texts(tuple(getattr(value, each.name) for each in fields(value)))


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
