"""Prompt pairs and harmless prompts from the entries of the sources.

Sides are joined by id, never by position, and ids serve for nothing else: equal rows are one, and different rows with
one id are told apart as `id~2`. The same seed draws the same templates for a goal, whatever other goals there are.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moe_cli.data import Entry, Location, RowFault, SourceReading, Template, cluster_of
from moe_cli.data.rows import DistinctNames
from moe_cli.data.turns import Turns
from moe_cli.errors import UsageError
from moe_cli.records import BenignPrompt, Message, PromptPair

SHOWN_ID = re.compile(r"[\w./:#~-]{1,60}")


@dataclass(frozen=True, slots=True)
class Attacks:
    """The templates that wrap goals, and how many of them each goal gets."""

    templates: tuple[Template, ...] = ()
    per_goal: int | None = None  # None: all of them
    seed: int = 0

    def on(self, goal: str) -> list[Template]:
        """The templates of one goal, in the order of the file."""
        if self.per_goal is None:
            return list(self.templates)
        chosen = set(random.Random(f"attacks {self.seed} {goal}").sample(range(len(self.templates)), self.per_goal))
        return [template for index, template in enumerate(self.templates) if index in chosen]


@dataclass(slots=True)
class PairedEntries:
    """The pairs by id, and the rows that made no pair."""

    pairs: dict[str, PromptPair] = field(default_factory=dict)
    faults: list[RowFault] = field(default_factory=list)
    merged: set[Location] = field(default_factory=set)  # rows that are equal to an earlier one
    alone: dict[str, str] = field(default_factory=dict)  # sources of goals that no attack wraps -> their format
    num_wrapped: int = 0  # goals that templates wrap
    names: DistinctNames = field(default_factory=DistinctNames)

    def add(self, pair: PromptPair) -> None:
        """Add the pair, under another id where its own is taken."""
        name = self.names.of(pair.id)
        self.pairs[name] = replace(pair, id=name)


def pairs_of_entries(readings: Sequence[SourceReading], attacks: Attacks) -> PairedEntries:
    """Pairs from entries with both sides, from two entries joined by id, and from goals wrapped in attacks."""
    result = PairedEntries()
    format_of = {reading.source.name: reading.format for reading in readings}
    unnamed: dict[str, int] = defaultdict(int)
    entries, result.merged = different_entries(
        (entry for reading in readings for entry in reading.entries), joined=True
    )
    wrapped: set[tuple[str, Turns]] = set()
    for entry in _joined(entries, result.faults):
        source = entry.place.source
        if entry.plain and entry.attacked:
            result.add(_complete(entry, unnamed))
        elif entry.plain and entry.goal and attacks.templates:
            result.num_wrapped += 1
            if (goal := (entry.goal, entry.plain)) in wrapped:  # under another id
                result.merged.add(entry.place)
                continue
            wrapped.add(goal)
            for template in attacks.on(entry.goal):
                result.add(_wrapped(entry, entry.goal, template))
        elif source in format_of and format_of[source].only_goals and not attacks.templates:
            result.alone[source] = format_of[source].name
        else:
            result.faults.append(RowFault(entry.place, _missing_side(entry, attacks)))
    return result


def different_entries(entries: Iterable[Entry], *, joined: bool) -> tuple[list[Entry], set[Location]]:
    """The entries without repetitions, and the locations of rows of which no entry is left.

    With `joined`, entries with one side alone are equal only under the same id.
    """
    contents: set[tuple[object, ...]] = set()
    kept: list[Entry] = []
    repeated: set[Location] = set()
    for entry in entries:
        name = entry.id if joined and _is_half(entry) else None
        content = (entry.kind, entry.goal, entry.plain, entry.attacked, entry.attack, entry.expected, entry.suite, name)
        if content in contents:
            repeated.add(entry.place)
        else:
            contents.add(content)
            kept.append(entry)
    return kept, repeated - {entry.place for entry in kept}


def refuse_goals_alone(paired: PairedEntries) -> None:
    """Refuse goals that have neither an attacked prompt nor a template.

    Raises:
        UsageError: names the first source of them.
    """
    for source, name in paired.alone.items():
        raise UsageError(
            f"{source} ({name}) holds goals without attacked prompts",
            hint="--attack FILE with templates that hold {goal}, or a second --pairs file with the attacked prompts",
        )


def benign_of_entries(readings: Sequence[SourceReading]) -> tuple[list[BenignPrompt], set[Location]]:
    """A harmless prompt for every different entry, in order of id, and the locations of repeated rows."""
    prompts: dict[str, BenignPrompt] = {}
    names = DistinctNames()
    entries, repeated = different_entries((entry for reading in readings for entry in reading.entries), joined=False)
    for number, entry in enumerate(entries, start=1):
        messages = entry.plain or entry.attacked
        if messages is not None:
            name = names.of(entry.id or f"benign-{number}")
            prompts[name] = BenignPrompt(id=name, cluster=entry.cluster or name, messages=messages, attack=entry.attack)
    return [prompts[name] for name in sorted(prompts)], repeated


def wrapped_share(prompts: Sequence[BenignPrompt], share: float, attacks: Attacks) -> tuple[BenignPrompt, ...]:
    """Wrap a `share` of the plain single-turn prompts in a template each; all prompts, in order of id.

    Prompts and templates are drawn by the seed. Every plain single-turn prompt gets its other form beside it; for those
    that stay plain the templates are used in turn.
    """
    ordered = sorted(prompts, key=lambda prompt: prompt.id)
    plain = [prompt.id for prompt in ordered if prompt.attack is None and len(prompt.messages) == 1]
    draw = random.Random(f"benign attacks {attacks.seed}")
    chosen = set(draw.sample(plain, round(share * len(plain))))
    shared = [_wrapped_prompt(p, draw.choice(attacks.templates)) if p.id in chosen else p for p in ordered]
    if not attacks.templates:
        return tuple(shared)
    position = {name: number for number, name in enumerate(plain)}
    return tuple(
        _with_wrapped_form(p, attacks.templates[position[p.id] % len(attacks.templates)]) if p.id in position else p
        for p in shared
    )


def _wrapped_prompt(prompt: BenignPrompt, template: Template) -> BenignPrompt:
    turns, plain = template.around(prompt.messages[0].content), prompt.messages
    return replace(prompt, id=f"{prompt.id}/{template.name}", messages=turns, attack=template.name, other_form=plain)


def _with_wrapped_form(prompt: BenignPrompt, template: Template) -> BenignPrompt:
    return replace(prompt, other_form=template.around(prompt.messages[0].content))


def _joined(entries: Sequence[Entry], faults: list[RowFault]) -> Iterator[Entry]:
    """Entries with the two halves of each id merged at the plain half; a half without a partner stays alone."""
    plain, attacked = _halves(entries, faults)
    of_goal: dict[tuple[str, str | None], list[Entry]] = defaultdict(list)
    for name, group in attacked.items():
        for other in group:
            of_goal[name, other.goal].append(other)
    for entry in entries:
        if entry.id is None or not (_is_half(entry)):
            yield entry
        elif entry.plain is not None:
            halves = attacked.get(entry.id, [])
            for other in halves if len(plain[entry.id]) == 1 else of_goal.get((entry.id, entry.goal), []):
                if (merged := _merged_halves(entry, other, faults)) is not None:
                    yield merged
            if not halves:
                yield entry
        elif entry.id not in plain:
            yield entry


def _halves(
    entries: Sequence[Entry], faults: list[RowFault]
) -> tuple[Mapping[str, list[Entry]], Mapping[str, list[Entry]]]:
    """Plain and attacked halves by id; an attacked half that names none of the several goals of its id is a bad row."""
    plain: dict[str, list[Entry]] = defaultdict(list)
    attacked: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.id is not None and _is_half(entry):
            (plain if entry.plain is not None else attacked)[entry.id].append(entry)
    for name, group in attacked.items():
        goals = {entry.goal for entry in plain.get(name, [])}
        for entry in group if len(goals) > 1 else []:
            if entry.goal not in goals:
                faults.append(
                    RowFault(
                        entry.place, f"{_id_in_message(name)} stands for {len(goals)} goals, and it joins none of them"
                    )
                )
    return dict(plain), dict(attacked)


def _is_half(entry: Entry) -> bool:
    """Whether an entry has only one side, so that it could be joined."""
    return (entry.plain is None) != (entry.attacked is None)


def _merged_halves(entry: Entry, other: Entry, faults: list[RowFault]) -> Entry | None:
    """Merge a plain half with its attacked one; None where they do not belong together."""
    if entry.goal and other.goal and entry.goal != other.goal:
        faults.append(RowFault(other.place, f"{_id_in_message(entry.id or '')} has another goal at {entry.place}"))
        return None
    if not (goal := entry.goal or other.goal):
        faults.append(RowFault(entry.place, "`goal` is None, not a text"))
        return None
    harmless = entry if entry.benign_attacked else other
    return replace(
        entry,
        goal=goal,
        attacked=other.attacked,
        attack=other.attack or entry.attack,
        part=other.part,
        benign=harmless.benign,
        benign_attacked=harmless.benign_attacked,
    )


def _complete(entry: Entry, unnamed: dict[str, int]) -> PromptPair:
    assert entry.goal and entry.plain and entry.attacked
    cluster = cluster_of(entry.goal)
    if entry.id is None:
        unnamed[cluster] += 1
        name = f"{cluster}/{unnamed[cluster]}"
    else:
        name = entry.id if entry.part is None else f"{entry.id}/{entry.part}"
    return PromptPair(
        id=name,
        goal=entry.goal,
        cluster=cluster,
        safe=entry.plain,
        unsafe=entry.attacked,
        attack=entry.attack,
        benign=entry.benign,
        benign_attacked=entry.benign_attacked,
    )


def _wrapped(entry: Entry, goal: str, template: Template) -> PromptPair:
    assert entry.plain
    cluster = cluster_of(goal)
    turns: Turns = template.around(goal)
    if entry.system is not None:
        turns = (Message(role="system", content=entry.system), *turns)
    return PromptPair(
        id=f"{entry.id or cluster}/{template.name}",
        goal=goal,
        cluster=cluster,
        safe=entry.plain,
        unsafe=turns,
        attack=template.name,
        benign=entry.benign,
        benign_attacked=entry.benign_attacked,
    )


def _missing_side(entry: Entry, attacks: Attacks) -> str:
    if entry.plain and attacks.templates:
        several = len(entry.plain) > 1
        return "a conversation has no goal that a template wraps" if several else "`goal` is None, not a text"
    side = "unsafe" if entry.plain else "safe"
    elsewhere = "" if entry.id is None else f", and no other row with {_id_in_message(entry.id)} has it"
    if entry.id is None and not entry.plain and not entry.goal:
        elsewhere = ", and no goal stands beside its attacked form"
    return f"`{side}` is None{elsewhere}"


def _id_in_message(name: str) -> str:
    """The id as an error message names it; an id that is a whole text could be a prompt, so it is left out."""
    return f"the id {name}" if SHOWN_ID.fullmatch(name) else "its id"
