"""The rows of one JSON object, recognised by its shape:

    {"goal": "..."}                                  one row
    {"name": "x", "jailbreaks": [{...}, {...}]}      the rows of its one list of objects; the rest is the header
    {"goal": ["a", "b"], "target": ["x", "y"]}       columns, also as pandas writes them: {"goal": {"0": "a"}}
    {"columns": ["goal"], "data": [["a"], ["b"]]}    what pandas calls orient="split", and tables of W&B
    {"id1": {...}, "id2": {...}}                     a row of each, its key under `id`
    {"id1": [{...}, {...}]}                          rows with their key under `id`, such as HarmBench's completions
    {"id1": ["a", "b"]}                              test cases: texts under `test_case`, their key under `id`
    {"id1": "a", "id2": "b"}                         texts, their key under `id`

An object that fits two of them is refused, with a hint how to choose. So is an object that maps texts to texts
(`{"a goal": "..."}`): the values could be attacked forms or answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

from moe_cli.data.column_names import SYSTEM_COLUMNS, TEST_CASE, marks_a_row, normalise_name, singular_of
from moe_cli.data.rows import KEY, Location, RawRow, RawTable, elements_of, text_rows
from moe_cli.data.text_marks import holds_placeholder
from moe_cli.data.turns import are_turns
from moe_cli.errors import UsageError

SHOWN_KEY = re.compile(r"[A-Za-z0-9_][\w.()/?#%-]{0,40}")  # what an error can show: a key with spaces could be a prompt
MOST_SHOWN = 12
MOST_WORDS_OF_ID = 2  # a key of more could be a prompt
DEEPEST = 3  # objects around the list of rows
# Lists that are parts of one data set, never rows by id.
PARTS = {"train", "training", "test", "validation", "valid", "val", "dev", "eval", "harmful", "harmless", "benign"}
LIST_NAMES = {"data", "items", "rows", "list", "texts", "examples", "samples", "values", "templates", "attacks"}
TARGET = re.compile(r"(sure|certainly|of course|here (is|are)|here.s)\b", re.IGNORECASE)
Object = dict[str, object]
Listed = Callable[[Sequence[object], str], RawTable]


def object_table(
    content: Object, name: str, hint: str, part: str | None, listed: Listed, mapped: Collection[str] = ()
) -> RawTable:
    """The rows of an object; `part` is the path of one of its lists, `listed` reads a list, `mapped` are known columns.

    Raises:
        UsageError: it holds no rows, or several lists of them and no part is named.
    """
    if part is not None:
        return _part(content, name, part, hint, listed, mapped)
    if _is_split(content):
        return _split(content, name)
    lists = _lists_of_objects(content)
    if any(marks_a_row(key, mapped) and not _is_objects(value) for key, value in content.items()):
        return _row_or_columns(content, name, lists, listed, mapped)
    if _are_parts_by_id(content, mapped):
        _refuse_text_keys(content, name)
        return _by_id(content, name)
    if lists:
        return _only_list(content, name, lists, listed)
    if content and all(_is_texts(value) for value in content.values()):
        return _only_list(content, name, cast("dict[str, list[object]]", content), listed)
    if _are_texts_by_id(content):
        _refuse_text_keys(content, name)
        return text_rows(list(content.items()), name, "a JSON object of texts by id")
    if not content:
        return elements_of([], name, "a JSON object")
    raise UsageError(
        f"{name} is one JSON object that holds no rows: its keys are {shown_keys(content)}",
        hint=_hint_of(content, name, hint),
    )


def _hint_of(content: Object, name: str, hint: str) -> str:
    """A hint how to name the list with the rows."""
    inner = ((f"{key}.{below}", value) for key, some in content.items() for below, value in _items_of(some))
    path = next((path for path, value in inner if _is_texts(value) and SHOWN_KEY.fullmatch(path)), None)
    if path is not None:
        return f"'{name}#{path}' names one of its lists"
    if not any(isinstance(value, (dict, list)) for value in content.values()):
        return f"where it is a row, --map goal=KEY or --map prompt=KEY says what it asks; {hint}"
    return hint


def _shown_path(paths: Iterable[str]) -> str:
    """The first path that may be shown in an error."""
    return next((path for path in paths if SHOWN_KEY.fullmatch(path)), "KEY")


def _items_of(value: object) -> Iterable[tuple[str, object]]:
    return value.items() if isinstance(value, dict) else ()


def _refuse_text_keys(content: Object, name: str) -> None:
    """Refuse texts under keys that are texts; target answers are recognised later by their words."""
    values = list(content.values())
    if not (
        all(map(_is_texts, values)) or (all(isinstance(value, str) for value in values) and not are_targets(values))
    ):
        return
    if any(len(key.split()) > MOST_WORDS_OF_ID for key in content):
        raise UsageError(
            f"{name} is a JSON object of texts under texts, and nothing says what they are: attacks, answers or parts",
            hint=f'write rows such as {{"goal": "...", "all_prompt": [...]}}, or name one list: \'{name}#KEY\'',
        )


def shown_keys(keys: Mapping[str, object] | Sequence[str]) -> str:
    """The keys that look like names, and how many others there are."""
    names = [f"`{key}`" for key in keys if SHOWN_KEY.fullmatch(key)][:MOST_SHOWN]
    others = len(keys) - len(names)
    return ", ".join([*names, *([f"{others} more"] if names and others else [f"{others} texts"] if others else [])])


def are_targets(values: Sequence[object]) -> bool:
    """Whether most of the texts begin like the target answers of an attack ("Sure, here is")."""
    return 2 * sum(isinstance(value, str) and TARGET.match(value) is not None for value in values) > len(values)


def _part(content: Object, name: str, part: str, hint: str, listed: Listed, mapped: Collection[str]) -> RawTable:
    value: object = content
    for key in part.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, dict):
        return object_table(value, name, hint, None, listed, mapped)
    if not isinstance(value, list):
        raise UsageError(
            f"{name} has no list under #{part}: its keys are {shown_keys(content)}", hint="name one of its lists"
        )
    return listed(value, name)


def _row_or_columns(
    content: Object, name: str, lists: Mapping[str, list[object]], listed: Listed, mapped: Collection[str]
) -> RawTable:
    marked = {key: value for key, value in content.items() if marks_a_row(key, mapped) and not _is_objects(value)}
    rows = {path: values for path, values in lists.items() if _hold_rows(values) and path not in marked}
    if rows and any(isinstance(value, str) for value in marked.values()):
        path, values = next(iter(rows.items()))
        raise UsageError(
            f"{name} could be one row, or the {len(values)} rows under `{_shown_path([path])}`",
            hint=f"write '{name}#{_shown_path([path])}' for those, or one row a line for the other",
        )
    if all(_is_column(value) for value in marked.values()):
        return _columns(content, name, listed, mapped)
    if rows and not any(isinstance(value, str) or are_turns(value) for value in marked.values()):
        return _only_list(content, name, rows, listed)
    return RawTable(rows=[(Location(name, 1), content)], container="JSON Lines")


def _is_column(value: object) -> bool:
    """Whether a value is a column: a list of cells, or pandas' object of numbered cells; turns are one value."""
    if isinstance(value, dict):
        return bool(value) and all(key.isdecimal() for key in value)
    return isinstance(value, list) and not are_turns(value)


def _columns(content: Object, name: str, listed: Listed, mapped: Collection[str]) -> RawTable:
    columns = {key: _cells(value) for key, value in content.items() if _is_column(value)}
    header = {key: value for key, value in content.items() if key not in columns}
    if len(lengths := {key: len(cells) for key, cells in columns.items()}) > 1 and len(set(lengths.values())) > 1:
        described = ", ".join(f"`{key}` ({number})" for key, number in lengths.items() if SHOWN_KEY.fullmatch(key))
        raise UsageError(
            f"{name} is an object of columns of different lengths: {described}",
            hint=f"name one: '{name}#{_shown_path(lengths)}'",
        )
    names = [singular_of(normalise_name(key)) for key in columns]
    if not mapped and names in (["prompt"], ["conversation"], ["text"]) and (cells := next(iter(columns.values()))):
        table = listed(cells, name)
    else:
        rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        table = elements_of(rows, name, "a JSON object of columns")
    return RawTable(rows=table.rows, container=table.container, are_texts=table.are_texts, header=header)


def _cells(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else cast("list[object]", value)


def _are_parts_by_id(content: Object, mapped: Collection[str]) -> bool:
    """Whether an object has rows, lists of rows, or lists of texts under ids; names of splits are no ids."""
    values = list(content.values())
    if not values or {normalise_name(key) for key in content} & PARTS:
        return False
    if all(isinstance(value, dict) and any(marks_a_row(key, mapped) for key in value) for value in values):
        return True
    if len(values) == 1 and normalise_name(next(iter(content))) in LIST_NAMES:
        return False
    is_of_rows = all(map(_is_objects, values)) and (len(values) > 1 or _hold_test_cases(values))
    return is_of_rows or all(map(_is_texts, values))


def _by_id(content: Object, name: str) -> RawTable:
    rows: list[RawRow] = []
    for key, value in content.items():
        for cell in [value] if isinstance(value, dict) else cast("list[object]", value):
            rows.append({KEY: key, **cell} if isinstance(cell, dict) else {KEY: key, TEST_CASE: cell})
    return elements_of(rows, name, "a JSON object of rows by id")


def _only_list(content: Object, name: str, lists: Mapping[str, list[object]], listed: Listed) -> RawTable:
    if len(lists) > 1:
        counts = [f"`{path}` ({len(rows)})" for path, rows in lists.items() if SHOWN_KEY.fullmatch(path)]
        others = [f"{len(lists) - len(counts)} under texts"] if len(counts) < len(lists) else []
        raise UsageError(
            f"{name} holds several lists of rows: {', '.join([*counts, *others])}",
            hint=f"name one: '{name}#{_shown_path(lists)}'",
        )
    path, rows = next(iter(lists.items()))
    table = listed(rows, name)
    header = {key: value for key, value in content.items() if key != path.partition(".")[0]}
    return RawTable(rows=table.rows, container="a JSON object with a list", header=header)


def _lists_of_objects(content: Object) -> dict[str, list[object]]:
    """The lists of objects, by their path; the shallowest ones alone."""
    level: list[tuple[str, Object]] = [("", content)]
    for _ in range(DEEPEST):
        inner = [(f"{path}{key}", value) for path, node in level for key, value in node.items()]
        if lists := {path: cast("list[object]", value) for path, value in inner if _is_objects(value)}:
            return lists
        level = [(f"{path}.", cast("Object", value)) for path, value in inner if isinstance(value, dict)]
    return {}


def _hold_rows(values: Sequence[object]) -> bool:
    return any(isinstance(value, dict) and any(map(marks_a_row, value)) for value in values)


def _hold_test_cases(values: Sequence[object]) -> bool:
    return any(TEST_CASE in row for value in values for row in cast("list[Object]", value))


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and not are_turns(value) and all(isinstance(x, dict) for x in value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, str) for x in value)


def _split(content: Object, name: str) -> RawTable:
    columns, data = cast("list[str]", content["columns"]), cast("list[list[object]]", content["data"])
    if len(set(columns)) < len(columns):
        raise UsageError(f"{name}: two of its columns have the same name", hint="rename one of them")
    return elements_of([dict(zip(columns, row, strict=True)) for row in data], name, "a JSON object of columns")


def _is_split(content: Object) -> bool:
    """Whether names of columns and lists of as many cells stand side by side, as pandas and W&B write them."""
    columns, data = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return False
    return all(isinstance(name, str) for name in columns) and all(
        isinstance(row, list) and len(row) == len(columns) for row in data
    )


def _are_texts_by_id(content: Object) -> bool:
    """Whether these are texts by id (targets, templates, texts with words of their key), not one unknown row."""
    values = list(content.values())
    if len(values) < 2 or not all(isinstance(value, str) for value in values):
        return False
    num_named = sum(_is_named_by(cast(str, value), key) for key, value in content.items())
    templates = sum(holds_placeholder(cast(str, value)) for value in values)
    return 2 * max(num_named, templates) > len(values) or are_targets(values)


def _is_named_by(text: str, key: str) -> bool:
    parts = [word for word in re.split(r"[\W_]+", key.lower()) if len(word) > 2]
    return " " in text.strip() and any(word in text.lower() for word in parts)


def system_of_header(header: Mapping[str, object]) -> str | None:
    """The system prompt beside a list of rows, which applies to all of them."""
    value = next((header[key] for key in header if normalise_name(key) in SYSTEM_COLUMNS), None)
    return value if isinstance(value, str) and value.strip() else None
