"""Prompt pairs and harmless prompts from files that people have.

Comes in: JSONL or JSON of `{id, goal, safe, unsafe}` or of the original `{goal, all_prompt}`; for harmless prompts
`{messages}` or `{prompt}`. Goes out: `PromptPair` and `BenignPrompt` records. Always holds: pairs are joined by id,
never by position; a bad row names its file and line; an id stands once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from moe_cli.errors import UsageError
from moe_cli.records import BenignPrompt, Message, PromptPair
from moe_cli.rows import Place, Row, messages_of, name_of, rows_of, text_of

PAIR_FORMATS = """accepted formats of --pairs, one JSON object per line (.jsonl) or one JSON list (.json):
    {"id": "1", "goal": "...", "safe": "the plain question", "unsafe": "the attacked question"}
    {"id": "1", "goal": "...", "safe": [{"role": "user", "content": "..."}], "unsafe": [{"role": ...}, ...]}
    {"goal": "...", "all_prompt": ["attacked question", "another attacked question"]}"""
BENIGN_FORMATS = """accepted formats of --benign: {"id": "1", "prompt": "..."} or {"id": "1", "messages": [...]},
    one JSON object per line (.jsonl) or one JSON list (.json)"""

Item = TypeVar("Item", PromptPair, BenignPrompt)


def read_pairs(path: Path) -> tuple[PromptPair, ...]:
    """All pairs of a file, in order of id.

    Raises:
        UsageError: no such file, a pickle, an empty file, or a row that is no pair (names file and line).
    """
    return _read(path, _pairs_of_row, PAIR_FORMATS)


def read_benign(path: Path) -> tuple[BenignPrompt, ...]:
    """All harmless prompts of a file, in order of id.

    Raises:
        UsageError: as `read_pairs`.
    """
    return _read(path, _benign_of_row, BENIGN_FORMATS)


def _read(path: Path, items_of: Callable[[Row, Place], Iterable[Item]], formats: str) -> tuple[Item, ...]:
    found: dict[str, Item] = {}
    for place, row in rows_of(path, formats):
        for item in items_of(row, place):
            if item.id in found:
                raise UsageError(f"{place}: the id {item.id} stands twice", hint="give every row an id of its own")
            found[item.id] = item
    if not found:
        raise UsageError(f"{path} holds no rows", hint=formats)
    return tuple(found[key] for key in sorted(found))


def _pairs_of_row(row: Row, place: Place) -> Iterator[PromptPair]:
    goal = text_of(row, "goal", place, PAIR_FORMATS)
    cluster = f"goal-{sha256(goal.encode()).hexdigest()[:12]}"
    if "all_prompt" in row and not {"safe", "unsafe"}.isdisjoint(row):
        raise UsageError(f"{place}: `all_prompt` stands beside `safe` or `unsafe`", hint=PAIR_FORMATS)
    if "all_prompt" in row:
        attacked = row["all_prompt"] if isinstance(row["all_prompt"], list) else [row["all_prompt"]]
        for number, prompt in enumerate(attacked):
            yield PromptPair(
                id=f"{name_of(row, 'id', cluster)}/{number}",
                goal=goal,
                cluster=cluster,
                safe=(Message(role="user", content=goal),),
                unsafe=messages_of(prompt, "all_prompt", place, PAIR_FORMATS),
                attack=None,
            )
        return
    yield PromptPair(
        id=name_of(row, "id", f"{cluster}/{place.number}"),
        goal=goal,
        cluster=cluster,
        safe=messages_of(row.get("safe"), "safe", place, PAIR_FORMATS),
        unsafe=messages_of(row.get("unsafe"), "unsafe", place, PAIR_FORMATS),
        attack=_attack(row),
    )


def _benign_of_row(row: Row, place: Place) -> Iterator[BenignPrompt]:
    name = name_of(row, "id", f"benign-{place.number}")
    messages = messages_of(row.get("messages", row.get("prompt")), "prompt", place, BENIGN_FORMATS)
    yield BenignPrompt(id=name, cluster=name_of(row, "cluster", name), messages=messages, attack=_attack(row))


def _attack(row: Row) -> str | None:
    return None if row.get("attack") is None else str(row["attack"])
